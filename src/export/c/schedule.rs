//! The order in which the C code computes rows, carried out with numbers of rows only: how long the queues of the rows that are added later become.

use crate::export::stages::{Form, Kernel, Stages};

/// What the C code counts of a stage; see `control.c`.
#[derive(Clone, Default)]
struct Counters {
    received: usize,
    filled: usize,
    skip: usize,
    lead: usize,
    computed: usize,
    emitted: usize,
    queued: usize,
    longest: usize,
}

/// For each stage the most rows that wait to be added to its result; none if a row is needed before it is there.
pub(super) fn queues(stages: &Stages) -> Option<Vec<usize>> {
    let forms: Vec<&Form> = stages.stages.iter().map(|stage| &stage.form).collect();
    let begin = |form: &&Form| Counters { lead: form.before(), ..Counters::default() };
    let mut run = Run { counters: forms.iter().map(begin).collect(), forms, complete: true };
    for first in (0..run.forms.len()).rev() {
        run.drain(first);
    }
    for _ in 0..stages.input.l {
        run.deliver(0);
        run.drain(0);
    }
    run.complete.then(|| run.counters.into_iter().map(|counters| counters.longest).collect())
}

struct Run<'a> {
    forms: Vec<&'a Form>,
    counters: Vec<Counters>,
    /// Whether every row to be added was there when it was needed.
    complete: bool,
}

impl Run<'_> {
    /// Takes a row of the input of stage `to`.
    fn deliver(&mut self, to: usize) {
        for (form, counters) in self.forms.iter().zip(&mut self.counters) {
            if form.residual == Some(to) {
                counters.queued += 1;
                counters.longest = counters.longest.max(counters.queued);
            }
        }
        let Some(counters) = self.counters.get_mut(to) else { return };
        if counters.emitted < self.forms[to].output.l {
            counters.append();
        }
        counters.received += 1;
    }

    /// Computes all rows of stage `first` and of those after it that can be computed.
    fn drain(&mut self, first: usize) {
        let mut stage = first;
        loop {
            if self.advance(stage) {
                self.deliver(stage + 1);
                if stage + 1 < self.forms.len() {
                    stage += 1;
                }
            } else if stage == first {
                return;
            } else {
                stage -= 1;
            }
        }
    }

    /// Computes the next row of a stage, if it can be computed.
    fn advance(&mut self, stage: usize) -> bool {
        let (form, counters) = (self.forms[stage], &mut self.counters[stage]);
        if matches!(form.kernel, Kernel::Mean | Kernel::Dense) {
            let ready = counters.received >= form.input.l && counters.emitted == 0;
            counters.emitted += usize::from(ready);
            return ready;
        }
        let span = form.span();
        while counters.emitted < form.output.l {
            while counters.filled < span && (counters.lead > 0 || counters.received >= form.input.l) {
                counters.append();
                counters.lead = counters.lead.saturating_sub(1);
            }
            if counters.filled < span {
                return false;
            }
            if form.residual.is_some() {
                self.complete &= counters.queued > 0;
                counters.queued = counters.queued.saturating_sub(1);
            }
            counters.skip = form.stride().saturating_sub(counters.filled);
            counters.filled = counters.filled.saturating_sub(form.stride());
            let place = counters.computed % form.pool.stride;
            counters.computed += 1;
            if place + 1 == form.pool.k || counters.computed == form.rows && place < form.pool.k {
                counters.emitted += 1;
                return true;
            }
        }
        false
    }
}

impl Counters {
    fn append(&mut self) {
        if self.skip > 0 {
            self.skip -= 1;
        } else {
            self.filled += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Shape;
    use crate::export::stages::{Pool, Stage};
    use crate::export::{ConvolutionGeometry, Layers};
    use crate::nn::{Initialisation, Network, NetworkSpec};
    use crate::train::{Model, Weights};

    #[test]
    fn a_row_waits_until_the_window_around_it_is_complete() {
        let geometry = ConvolutionGeometry { k: 5, stride: 1, dilation: 1, before: 2, after: 2, depthwise: false };
        let form = Form {
            name: "conv1".into(),
            output_name: "conv1".into(),
            kernel: Kernel::Convolution(geometry),
            residual: Some(0),
            relu: true,
            pool: Pool::NONE,
            input: Shape::new(20, 3),
            rows: 20,
            output: Shape::new(20, 3),
        };
        let stage = Stage { form, weight: vec![0.0; 45], bias: vec![0.0; 3] };
        let mut stages = Stages { input: Shape::new(20, 3), standardisation: None, stages: vec![stage] };
        // Row r is added when row r + 2 has come.
        assert_eq!(queues(&stages), Some(vec![3]));
        // A window of rows before the result, then one that lacks the row itself.
        let form = &mut stages.stages[0].form;
        form.kernel = Kernel::Convolution(ConvolutionGeometry { before: 4, after: 0, ..geometry });
        assert_eq!(queues(&stages), Some(vec![1]));
        stages.stages[0].form.kernel = Kernel::Convolution(ConvolutionGeometry { before: 5, after: 0, ..geometry });
        assert_eq!(queues(&stages), None, "the first row would be computed before any input");
    }

    #[test]
    fn every_row_of_a_network_is_computed() {
        let spec = "name = \"n\"\ninput = { length = 500 }\nblock = [{ conv = 4, kernel = 7, stride = 9, padding = [11, 3] }, \
                    { conv = 4, kernel = 3, separable = true, residual = true, pool = 4, pool_ceil = true }]";
        let network = Network::build(&NetworkSpec::parse(spec, "n.toml").unwrap(), 3).unwrap();
        let weights = Weights::initial(&network.graph, Initialisation::default(), 1);
        let layers = Layers::new(&Model::from(&network), &weights, None).unwrap().fold_norms().unwrap();
        let stages = Stages::new(&layers, "C").unwrap();
        assert_eq!(queues(&stages), Some(vec![0, 0, 2, 0]));
    }
}
