//! The kernel launches of a plan for a GPU, in order.

use super::plan::{BufferLoc, Plan, Space, Step};
use crate::ops::device::{Launch, Operand, Passes};
use crate::ops::op::Pass;

/// Launches that are combined into one: a single one, or several of a kernel that has a variant for many jobs.
#[derive(Clone, Debug)]
pub struct LaunchGroup(pub Vec<PlannedLaunch>);

impl LaunchGroup {
    /// Groups consecutive launches.
    pub fn all(launches: Vec<PlannedLaunch>) -> Vec<LaunchGroup> {
        let mut groups: Vec<LaunchGroup> = Vec::new();
        for planned in launches {
            let fits = |group: &&mut LaunchGroup| {
                let (first, next) = (&group.0[0].launch, &planned.launch);
                first.many && next.many && first.kernel == next.kernel && first.block == next.block
            };
            match groups.last_mut().filter(fits) {
                Some(group) => group.0.push(planned),
                None => groups.push(LaunchGroup(vec![planned])),
            }
        }
        groups
    }

    /// The name of the kernel.
    pub fn kernel(&self) -> String {
        let kernel = &self.0[0].launch.kernel;
        if self.0.len() > 1 { format!("{kernel}_many") } else { kernel.clone() }
    }

    /// Its grid.
    pub fn grid(&self) -> [u32; 3] {
        let [_, y, z] = self.0[0].launch.grid;
        [self.0.iter().map(|planned| planned.launch.grid[0]).sum(), y, z]
    }

    /// Bytes read and written in device memory, each once.
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|planned| planned.launch.bytes).sum()
    }

    /// Operations.
    pub fn flops(&self) -> u64 {
        self.0.iter().map(|planned| planned.launch.flops).sum()
    }

    /// The name of the layer; `step` for a launch of no single layer.
    pub fn layer(&self, plan: &Plan) -> String {
        match self.0[..] {
            [PlannedLaunch { node: Some(node), .. }] => plan.nodes[node].name.clone(),
            _ => "step".into(),
        }
    }
}

/// A launch of a plan with its node and step.
#[derive(Clone, Debug)]
pub struct PlannedLaunch {
    /// Which of [`Plan::nodes`]; none for the seed of the loss gradient.
    pub node: Option<usize>,
    /// The step whose operands it reads; none for a launch that prepares parameters.
    pub step: Option<Step>,
    /// The number of the step; the largest number for a launch after all steps.
    pub at: usize,
    /// `prepare`, `forward`, `backward` or `finish`.
    pub pass: &'static str,
    /// The launch.
    pub launch: Launch,
}

impl Step {
    /// The location of an operand of the step, if it has that operand; `in_place` says whether the operation works in place.
    pub fn loc(&self, operand: Operand, in_place: bool) -> Option<BufferLoc> {
        let there = |loc: BufferLoc| (loc.space != Space::None).then_some(loc);
        match operand {
            // In place, the first input has the location of the output, and the gradient of the output that of the input's gradient.
            Operand::X(0) if in_place => there(self.x[0]).or(there(self.y)),
            Operand::Dy if in_place => there(self.dy).or(there(self.dx[0])),
            Operand::X(k) => there(self.x[k]),
            Operand::Y => there(self.y),
            Operand::Dy => there(self.dy),
            Operand::Dx(k) => there(self.dx[k]),
            Operand::Saved => there(self.saved),
            _ => None,
        }
    }
}

impl Plan {
    /// The launches that follow every change of parameters; none in a plan for the CPU.
    pub fn preparing_launches(&self) -> Vec<PlannedLaunch> {
        self.launches_by_node("prepare", |passes| &passes.prepare)
    }

    /// The launches that follow those of a training run; none in a plan for the CPU or for inference.
    pub fn finishing_launches(&self) -> Vec<PlannedLaunch> {
        if self.trains() { self.launches_by_node("finish", |passes| &passes.finish) } else { Vec::new() }
    }

    fn launches_by_node(&self, pass: &'static str, of: fn(&Passes) -> &Vec<Launch>) -> Vec<PlannedLaunch> {
        let mut all = Vec::new();
        for (i, node) in self.nodes.iter().enumerate() {
            let backward = self.steps.iter().find(|step| step.node == Some(i) && step.pass == Pass::Backward);
            let wanted = |launch: &&Launch| {
                let there = |operand| backward.is_some_and(|step| step.loc(operand, node.needs.in_place).is_some());
                launch.only_for.is_none_or(there)
            };
            let launches = node.passes.iter().flat_map(of).filter(wanted);
            let planned = |launch: &Launch| PlannedLaunch {
                node: Some(i),
                step: None,
                at: usize::MAX,
                pass,
                launch: launch.clone(),
            };
            all.extend(launches.map(planned));
        }
        all
    }

    /// The launches of a run; none in a plan for the CPU.
    pub fn launches(&self) -> Vec<PlannedLaunch> {
        self.steps.iter().enumerate().flat_map(|(at, step)| self.launches_of(at, step)).collect()
    }

    fn launches_of(&self, at: usize, step: &Step) -> Vec<PlannedLaunch> {
        let pass = match step.pass {
            Pass::Forward => "forward",
            Pass::Backward => "backward",
        };
        let planned =
            |step: &Step, launch| PlannedLaunch { node: step.node, step: Some(step.clone()), at, pass, launch };
        let Some(node) = step.node.map(|node| &self.nodes[node]) else {
            let len = self.n * step.dy.len;
            let seed = Launch::over("fill", len, 4).with(Operand::Dy).float(1.0 / self.n as f32).int(len);
            return vec![planned(step, seed.costs(len, 0))];
        };
        let Some(passes) = &node.passes else { return Vec::new() };
        let launches = match step.pass {
            Pass::Forward => &passes.forward,
            Pass::Backward => &passes.backward,
        };
        let wanted =
            |launch: &&Launch| launch.only_for.is_none_or(|operand| step.loc(operand, node.needs.in_place).is_some());
        let mut all: Vec<_> = launches.iter().filter(wanted).map(|launch| planned(step, launch.clone())).collect();
        for (k, to) in step.add_to.iter().enumerate().filter(|(_, to)| to.space != Space::None) {
            let len = self.n * to.len;
            let add = Launch::over("add_to", len, 4).with(Operand::Y).with(Operand::Dx(k)).int(len);
            all.push(planned(&Step { y: *to, ..step.clone() }, add.costs(3 * len, len as u64)));
        }
        all
    }
}
