//! A training step of custom32-8 in candle, on `[n, channels, length]`.

#[path = "../timing.rs"]
mod timing;

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{
    AdamW, Conv1d, Conv1dConfig, Dropout, Init, Linear, Module, Optimizer, ParamsAdamW, VarBuilder, VarMap,
};
use timing::{BATCH, CLASSES, DROPOUT, KERNEL, POOL, SAMPLES, WIDTHS};

struct Network {
    convs: Vec<Conv1d>,
    dropout: Dropout,
    fc: Linear,
}

impl Network {
    fn new(vb: VarBuilder) -> Result<Network> {
        let config = Conv1dConfig { padding: KERNEL / 2, ..Conv1dConfig::default() };
        let (mut convs, mut c_in, mut length) = (Vec::new(), 1, SAMPLES);
        for (i, c) in WIDTHS.into_iter().enumerate() {
            let vb = vb.pp(format!("conv{}", i + 1));
            let he = Init::Randn { mean: 0.0, stdev: (2.0 / (KERNEL * c_in) as f64).sqrt() };
            let weight = vb.get_with_hints((c, c_in, KERNEL), "weight", he)?;
            let bias = vb.get_with_hints(c, "bias", Init::Const(0.0))?;
            convs.push(Conv1d::new(weight, Some(bias), config));
            length = if i + 1 < WIDTHS.len() { length / POOL } else { length };
            c_in = c;
        }
        let vb = vb.pp("fc1");
        let up = (6.0 / (c_in * length + CLASSES) as f64).sqrt();
        let weight = vb.get_with_hints((CLASSES, c_in * length), "weight", Init::Uniform { lo: -up, up })?;
        let bias = vb.get_with_hints(CLASSES, "bias", Init::Const(0.0))?;
        Ok(Network { convs, dropout: Dropout::new(DROPOUT as f32), fc: Linear::new(weight, Some(bias)) })
    }

    /// Logits `[n, classes]` of clips `[n, 1, samples]`, as in training.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut h = x.clone();
        for (i, conv) in self.convs.iter().enumerate() {
            h = conv.forward(&h)?.relu()?;
            if i + 1 < self.convs.len() {
                h = max_pool(&h)?;
            }
        }
        self.fc.forward(&self.dropout.forward(&h.flatten_from(1)?, true)?)
    }
}

/// Max pooling along the clip. Rows after the last whole window are removed first: the gradient of `max_pool2d` is wrong with them.
fn max_pool(h: &Tensor) -> Result<Tensor> {
    let whole = h.dim(2)? / POOL * POOL;
    h.narrow(2, 0, whole)?.contiguous()?.unsqueeze(2)?.max_pool2d((1, POOL))?.squeeze(2)
}

fn main() -> Result<()> {
    let device = Device::Cpu;
    let weights = VarMap::new();
    let network = Network::new(VarBuilder::from_varmap(&weights, DType::F32, &device))?;
    let adam = ParamsAdamW { lr: 1e-3, weight_decay: 0.0, ..ParamsAdamW::default() };
    let mut adam = AdamW::new(weights.all_vars(), adam)?;
    let x = Tensor::from_vec(timing::clips(), (BATCH, 1, SAMPLES), &device)?;
    let labels = Tensor::from_iter(timing::labels().map(|l| l as u32), &device)?;
    let parameters = weights.all_vars().iter().map(|v| v.elem_count()).sum();
    let mut step = || -> Result<f32> {
        let loss = candle_nn::loss::cross_entropy(&network.forward(&x)?, &labels)?;
        adam.backward_step(&loss)?;
        loss.to_scalar()
    };
    timing::report("candle", "0.11.1", parameters, || step().expect("the shapes fit"));
    Ok(())
}
