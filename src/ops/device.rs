//! What an operation does on a GPU: for each pass a list of kernel launches. The list is made without a device, so that it can be
//! printed, counted and tested anywhere.
//!
//! Activations and gradients are stored as on the CPU, `[n, l, c]` in f32, all samples of a batch side by side; parameters as in
//! [`Layout`](super::op::Layout). A kernel of `kernels/*.cu` takes its arguments one by one: pointers, `int`, `float`.
//! Activation gradients and parameter gradients are assigned. A sum that several blocks share is written in pieces and
//! added by a second launch in a fixed order; the pieces depend on the shape, never on the chip. So two runs agree bit for bit.

use crate::base::Shape;
use std::fmt::{self, Display};
use std::str::FromStr;

/// How exactly convolutions and dense layers are computed on a GPU: the setting `precision`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// As exact as single precision on the CPU.
    #[default]
    F32,
    /// Factors rounded to 10 bits of mantissa, sums in f32.
    Tf32,
    /// Factors rounded to 7 bits of mantissa, sums in f32.
    Bf16,
}

impl Precision {
    /// The names of all, in the order of the variants.
    pub const NAMES: [&'static str; 3] = ["f32", "tf32", "bf16"];
}

impl Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Precision::NAMES[*self as usize])
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(name: &str) -> Result<Precision, String> {
        match name {
            "f32" => Ok(Precision::F32),
            "tf32" => Ok(Precision::Tf32),
            "bf16" => Ok(Precision::Bf16),
            _ => Err(format!("`{name}` is no precision; take f32, tf32 or bf16")),
        }
    }
}

/// Which units make the products.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Products {
    /// Fused multiply-adds in f32, on every chip.
    Fma,
    /// f32 through the matrix units: each factor in two TF32 parts, three products, sums emptied into f32 before they lose bits.
    Split,
    /// One TF32 product.
    Tf32,
    /// One bf16 product.
    Bf16,
}

impl Products {
    /// What serves `precision` best on a chip of this compute capability. f32 by split products pays where the matrix units are
    /// more than six times as fast as the others: on data-centre chips (8.0, 9.0, 10.x). Elsewhere plain
    /// multiply-adds are as fast or faster. The matrix units know TF32 and bf16 from 8.0 on.
    pub fn of(precision: Precision, capability: (u32, u32)) -> Products {
        match (precision, capability) {
            (_, (..=7, _)) => Products::Fma,
            (Precision::F32, (8, 0) | (9, 0) | (10, _)) => Products::Split,
            (Precision::F32, _) => Products::Fma,
            (Precision::Tf32, _) => Products::Tf32,
            (Precision::Bf16, _) => Products::Bf16,
        }
    }

    /// The last part of the names of the kernels that compute so: `conv_forward_split`.
    pub fn suffix(self) -> &'static str {
        match self {
            Products::Fma => "fma",
            Products::Split => "split",
            Products::Tf32 => "tf32",
            Products::Bf16 => "bf16",
        }
    }
}

/// The batch that an operation processes.
#[derive(Clone, Copy, Debug)]
pub struct Batch {
    /// Samples.
    pub n: usize,
    /// Which units make the products.
    pub products: Products,
}

/// A buffer of the op. Where the op has none (a gradient that nobody needs), a kernel is given a null pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operand {
    /// An input, `[n, l, c]`.
    X(usize),
    /// The output.
    Y,
    /// The gradient of the output.
    Dy,
    /// The gradient of an input.
    Dx(usize),
    /// Kept from forward to backward: `n *` [`Passes::saved`] numbers.
    Saved,
    /// Scratch memory, whose content is lost after each pass: [`Passes::scratch`] numbers.
    Scratch,
    /// Kept from [`Passes::prepare`] or forward on: [`Passes::batch_saved`] numbers.
    BatchSaved,
    /// A tensor of the op's parameters.
    Params(usize),
    /// Its gradient, to be assigned. The weights and the bias of a layer follow one another in memory, so that one kernel may assign both.
    DParams(usize),
    /// A tensor of the op's state.
    State(usize),
    /// The key of this step's random numbers, one `unsigned long long`.
    Draw,
}

/// An argument of a kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Argument {
    /// The address of a number of an operand, counted in f32 from its first.
    At(Operand, usize),
    /// A null pointer.
    Null,
    /// An `int`.
    Int(i32),
    /// A `float`.
    Float(f32),
    /// The number that the op's node adds to the key of the step, an `int`.
    Node,
}

/// One launch of a kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct Launch {
    /// The kernel's name, an entry of a file of `kernels/ptx/`.
    pub kernel: String,
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: u32,
    /// Bytes of dynamic shared memory.
    pub shared_bytes: u32,
    /// Arguments in the kernel's order.
    pub arguments: Vec<Argument>,
    /// Bytes that must be read and written in device memory, each once.
    pub bytes: u64,
    /// Floating-point operations (FLOPs); a MAC counts as two.
    pub flops: u64,
    /// Several such launches of a kernel that follow one another may be one, of `KERNEL_many`: see `kernels/jobs.cuh`. They have one
    /// axis of blocks and no dynamic shared memory.
    pub many: bool,
    /// May run beside the launches that follow it in its step and in the next one: it writes only what `finish` reads.
    pub concurrent: bool,
    /// Left out where the op does not have this operand: work for a gradient that nobody needs.
    pub only_for: Option<Operand>,
}

impl Launch {
    /// Of `kernel`, in `blocks` blocks of `threads` threads, without arguments.
    pub fn new(kernel: impl Into<String>, blocks: usize, threads: u32) -> Launch {
        Launch {
            kernel: kernel.into(),
            grid: [blocks as u32, 1, 1],
            block: threads,
            shared_bytes: 0,
            arguments: Vec::new(),
            bytes: 0,
            flops: 0,
            many: false,
            concurrent: false,
            only_for: None,
        }
    }

    /// Of an element-wise `kernel` over `count` numbers: 256 threads a block, a thread for `each` numbers.
    pub fn over(kernel: impl Into<String>, count: usize, each: usize) -> Launch {
        Launch::new(kernel, count.div_ceil(256 * each).max(1), 256)
    }

    /// With further axes of the grid.
    pub fn grid(self, y: usize, z: usize) -> Launch {
        Launch { grid: [self.grid[0], y as u32, z as u32], ..self }
    }

    /// With dynamic shared memory.
    pub fn shared_bytes(self, bytes: usize) -> Launch {
        Launch { shared_bytes: bytes as u32, ..self }
    }

    /// With one more argument: an operand's first number.
    pub fn with(self, operand: Operand) -> Launch {
        self.at(operand, 0)
    }

    /// With one more argument: the `offset`th number of an operand.
    pub fn at(mut self, operand: Operand, offset: usize) -> Launch {
        self.arguments.push(Argument::At(operand, offset));
        self
    }

    /// With one more argument: a null pointer.
    pub fn null(mut self) -> Launch {
        self.arguments.push(Argument::Null);
        self
    }

    /// With one more argument, an `int`.
    pub fn int(mut self, value: usize) -> Launch {
        self.arguments.push(Argument::Int(value as i32));
        self
    }

    /// With one more argument, a `float`.
    pub fn float(mut self, value: f32) -> Launch {
        self.arguments.push(Argument::Float(value));
        self
    }

    /// With one more argument: the node's number, an `int`.
    pub fn node(mut self) -> Launch {
        self.arguments.push(Argument::Node);
        self
    }

    /// What it costs: numbers of device memory read and written (f32, each once), and operations.
    pub fn costs(self, numbers: usize, flops: u64) -> Launch {
        Launch { bytes: 4 * numbers as u64, flops, ..self }
    }

    /// One of perhaps many in one launch.
    pub fn many(self) -> Launch {
        Launch { many: true, ..self }
    }

    /// Beside what follows, see [`Launch::concurrent`].
    pub fn concurrent(self) -> Launch {
        Launch { concurrent: true, ..self }
    }

    /// Only where the op has this operand.
    pub fn only_for(self, operand: Operand) -> Launch {
        Launch { only_for: Some(operand), ..self }
    }
}

/// What an op does on a GPU for one batch, and the memory it needs.
#[derive(Clone, Debug, Default)]
pub struct Passes {
    /// Numbers a sample written by forward for backward.
    pub saved: usize,
    /// Scratch memory of a pass for the whole batch, in numbers.
    pub scratch: usize,
    /// Numbers kept from `prepare` or `forward` on, for the whole batch.
    pub batch_saved: usize,
    /// Backward reads the inputs.
    pub reads_x: bool,
    /// Backward reads the output.
    pub reads_y: bool,
    /// Whether the output may overwrite the first input, and the gradient of the first input that of the output; kernels
    /// are then given the same address twice.
    pub in_place: bool,
    /// Whenever parameters (or, in inference, state) have changed.
    pub prepare: Vec<Launch>,
    /// From inputs to output.
    pub forward: Vec<Launch>,
    /// From the output's gradient to those of inputs and parameters.
    pub backward: Vec<Launch>,
    /// When all gradients of activations are there: what remains to be done for those of the parameters, with what `backward` left in
    /// `BatchSaved`.
    pub finish: Vec<Launch>,
}

/// The product of three axes as a number of the C type `int`, which kernels count in.
pub fn fits_int(n: usize, shape: Shape) -> bool {
    n.saturating_mul(shape.size()) < i32::MAX as usize
}
