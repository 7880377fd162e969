//! A training step of custom32-8 in burn, on `[n, channels, length]`, with its Flex back end.

#[path = "../timing.rs"]
mod timing;

use burn::module::Module;
use burn::nn::conv::{Conv1d, Conv1dConfig};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::pool::MaxPool1dConfig;
use burn::nn::{Dropout, DropoutConfig, Initializer, Linear, LinearConfig, PaddingConfig1d};
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Int, Tensor, TensorData};
use timing::{BATCH, CLASSES, DROPOUT, KERNEL, POOL, SAMPLES, WIDTHS};

#[derive(Module, Debug)]
struct Network {
    convs: Vec<Conv1d>,
    dropout: Dropout,
    fc: Linear,
}

impl Network {
    fn new(device: &Device) -> Network {
        let he = Initializer::KaimingNormal { gain: 2f64.sqrt(), fan_out_only: false };
        let (mut convs, mut c_in, mut length) = (Vec::new(), 1, SAMPLES);
        for (i, c) in WIDTHS.into_iter().enumerate() {
            let conv = Conv1dConfig::new(c_in, c, KERNEL).with_padding(PaddingConfig1d::Same);
            convs.push(conv.with_initializer(he.clone()).init(device));
            length = if i + 1 < WIDTHS.len() { length / POOL } else { length };
            c_in = c;
        }
        let glorot = Initializer::XavierUniform { gain: 1.0 };
        let fc = LinearConfig::new(c_in * length, CLASSES).with_initializer(glorot).init(device);
        Network { convs, dropout: DropoutConfig::new(DROPOUT).init(), fc }
    }

    /// Logits `[n, classes]` of clips `[n, 1, samples]`.
    fn forward(&self, x: Tensor<3>) -> Tensor<2> {
        let pool = MaxPool1dConfig::new(POOL).init();
        let mut h = x;
        for (i, conv) in self.convs.iter().enumerate() {
            h = relu(conv.forward(h));
            if i + 1 < self.convs.len() {
                h = pool.forward(h);
            }
        }
        self.fc.forward(self.dropout.forward(h.flatten::<2>(1, 2)))
    }
}

fn main() {
    let device = Device::flex().autodiff();
    let mut network = Network::new(&device);
    let mut adam = AdamConfig::new().with_epsilon(1e-8).init();
    let x = Tensor::<3>::from_data(TensorData::new(timing::clips(), [BATCH, 1, SAMPLES]), &device);
    let labels: Vec<i64> = timing::labels().map(|l| l as i64).collect();
    let labels = Tensor::<1, Int>::from_data(TensorData::new(labels, [BATCH]), &device);
    let loss_of = CrossEntropyLossConfig::new().init(&device);
    let parameters = network.num_params();
    timing::report("burn", "0.22.1", parameters, || {
        let loss = loss_of.forward(network.forward(x.clone()), labels.clone());
        let grads = GradientsParams::from_grads(loss.backward(), &network);
        network = adam.step(1e-3, network.clone(), grads);
        loss.into_scalar()
    });
}
