"use strict";
// The network: layers as plain data, computed in single precision. A layer's output is [rows, channels], row by row.
function decodeWeights(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const view = new DataView(bytes.buffer);
  const values = new Float32Array(bytes.length / 4);
  for (let i = 0; i < values.length; i++) values[i] = view.getFloat32(4 * i, true);
  return values;
}

class Network {
  constructor(description, weights) {
    this.layers = description.layers;
    this.output = description.output;
    const tensor = (place) => (place ? weights.subarray(place[0], place[0] + place[1]) : null);
    for (const layer of this.layers) {
      layer.w = tensor(layer.weight);
      layer.b = tensor(layer.bias);
    }
    // Each output has its own memory, which is used again for each window.
    this.outputs = this.layers.map((layer) => new Float32Array(layer.rows * layer.channels));
    this.length = this.layers[0].rows;
    this.channels = this.layers[0].channels;
  }

  // The logits of a window of samples with full scale 1.
  logits(samples) {
    this.outputs[0].set(samples);
    for (let i = 1; i < this.layers.length; i++) {
      const layer = this.layers[i];
      const [x, second] = layer.inputs.map((input) => this.outputs[input]);
      const shape = this.layers[layer.inputs[0]];
      this[layer.operation](layer, shape, x, this.outputs[i], second);
    }
    return this.outputs[this.output];
  }

  standardise(layer, shape, x, y) {
    const c = shape.channels;
    for (let i = 0; i < x.length; i++) y[i] = (x[i] - layer.w[i % c]) / layer.b[i % c];
  }

  convolution(layer, shape, x, y) {
    const { k, stride, dilation, before, w, b } = layer;
    const inputs = shape.channels, outputs = layer.channels;
    const sums = new Float32Array(outputs);
    for (let r = 0; r < layer.rows; r++) {
      if (b) sums.set(b); else sums.fill(0);
      for (let t = 0; t < k; t++) {
        const row = r * stride + t * dilation - before;
        if (row < 0 || row >= shape.rows) continue;
        for (let i = 0; i < inputs; i++) {
          const value = x[row * inputs + i];
          if (value === 0) continue; // after a ReLU, often
          const at = (t * inputs + i) * outputs;
          for (let o = 0; o < outputs; o++) sums[o] += value * w[at + o];
        }
      }
      y.set(sums, r * outputs);
    }
  }

  depthwise(layer, shape, x, y) {
    const { k, stride, dilation, before, w, b } = layer;
    const c = layer.channels;
    for (let r = 0; r < layer.rows; r++) {
      for (let o = 0; o < c; o++) y[r * c + o] = b ? b[o] : 0;
      for (let t = 0; t < k; t++) {
        const row = r * stride + t * dilation - before;
        if (row < 0 || row >= shape.rows) continue;
        for (let o = 0; o < c; o++) y[r * c + o] += x[row * c + o] * w[t * c + o];
      }
    }
  }

  // What is left of a batch norm after folding: a scale and a shift of each channel, or of each number.
  scale(layer, shape, x, y) {
    const { w, b } = layer;
    for (let i = 0; i < x.length; i++) y[i] = x[i] * w[i % w.length] + b[i % b.length];
  }

  relu(layer, shape, x, y) {
    for (let i = 0; i < x.length; i++) y[i] = x[i] > 0 ? x[i] : 0;
  }

  maxPool(layer, shape, x, y) {
    const c = layer.channels;
    for (let r = 0; r < layer.rows; r++) {
      const first = r * layer.stride, end = Math.min(first + layer.k, shape.rows);
      for (let o = 0; o < c; o++) {
        let most = x[first * c + o];
        for (let row = first + 1; row < end; row++) most = Math.max(most, x[row * c + o]);
        y[r * c + o] = most;
      }
    }
  }

  mean(layer, shape, x, y) {
    const c = shape.channels;
    y.fill(0);
    for (let i = 0; i < x.length; i++) y[i % c] += x[i];
    for (let o = 0; o < c; o++) y[o] /= shape.rows;
  }

  add(layer, shape, x, y, second) {
    for (let i = 0; i < x.length; i++) y[i] = x[i] + second[i];
  }

  linear(layer, shape, x, y) {
    const outputs = layer.channels;
    if (layer.b) y.set(layer.b); else y.fill(0);
    for (let i = 0; i < x.length; i++) {
      const value = x[i];
      if (value === 0) continue;
      for (let o = 0; o < outputs; o++) y[o] += value * layer.w[i * outputs + o];
    }
  }
}

function softmax(logits) {
  const most = Math.max(...logits);
  const powers = Array.from(logits, (z) => Math.exp(z - most));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((p) => p / sum);
}

// One event for each spoken word, as `stapes listen` decides it: averaged probabilities, a threshold, a decision after `decision`, then a refractory time. Times are in seconds.
class Detector {
  constructor(settings, hop) {
    this.settings = settings;
    const windows = (ms) => Math.round(ms / 1000 / hop);
    this.smoothing = Math.max(1, windows(settings.smoothing_ms));
    this.decision = windows(settings.decision_ms);
    this.refractory = windows(settings.refractory_ms);
    this.recent = [];
    this.window = -1;
    this.candidate = null;
    this.free = 0; // the first window in which a candidate may begin
    this.last = -1; // the word of the last event, until it falls below its threshold
    this.average = settings.words.map(() => 0);
  }

  // Takes the probabilities of the next window, null if it is quiet; returns a decided word or null.
  push(probabilities) {
    this.window++;
    const classes = this.settings.words.length;
    this.recent.push(probabilities || new Array(classes).fill(0));
    if (this.recent.length > this.smoothing) this.recent.shift();
    this.average = this.settings.words.map((_, c) => this.recent.reduce((sum, p) => sum + p[c], 0) / this.smoothing);
    const { thresholds } = this.settings;
    if (this.last >= 0 && this.average[this.last] < thresholds[this.last]) this.last = -1;
    const reached = this.average.some((p, c) => c !== this.last && p >= thresholds[c]);
    if (!this.candidate && reached && this.window >= this.free) {
      this.candidate = { since: this.window, sums: new Array(classes).fill(0), most: new Array(classes).fill(0) };
    }
    if (!this.candidate) return null;
    this.average.forEach((p, c) => {
      if (c === this.last) return;
      this.candidate.sums[c] += p;
      this.candidate.most[c] = Math.max(this.candidate.most[c], p);
    });
    return this.window - this.candidate.since >= this.decision ? this.decide() : null;
  }

  decide() {
    if (!this.candidate) return null;
    const { since, sums, most } = this.candidate;
    let word = -1;
    sums.forEach((sum, c) => {
      if (most[c] >= this.settings.thresholds[c] && (word < 0 || sum > sums[word])) word = c;
    });
    this.candidate = null;
    if (word < 0) return null;
    this.free = since + this.refractory;
    this.last = word;
    return { word: this.settings.words[word], probability: most[word] };
  }
}

// Cuts a stream of samples at the network's rate into windows. The stream is continued by silence on both sides.
class Listener {
  constructor(network, settings, hop) {
    this.network = network;
    this.settings = settings;
    this.hop = hop;
    this.detector = new Detector(settings, hop / settings.sample_rate);
    this.window = new Float32Array(network.length);
    this.waiting = 0;
    this.samples = 0;
  }

  // Takes samples, and calls `onWindow(average)` and `onWord(event)`.
  push(samples, onWord, onWindow) {
    for (let at = 0; at < samples.length; ) {
      const now = Math.min(this.hop - this.waiting, samples.length - at);
      this.window.copyWithin(0, now);
      this.window.set(samples.subarray(at, at + now), this.window.length - now);
      this.waiting += now;
      this.samples += now;
      at += now;
      if (this.waiting === this.hop) {
        this.waiting = 0;
        const decided = this.detector.push(this.quiet() ? null : softmax(this.network.logits(this.window)));
        if (decided) onWord({ ...decided, time: this.samples / this.settings.sample_rate });
        if (onWindow) onWindow(this.detector.average);
      }
    }
  }

  finish(onWord) {
    this.push(new Float32Array(this.window.length), onWord);
    const decided = this.detector.decide();
    if (decided) onWord({ ...decided, time: this.samples / this.settings.sample_rate });
  }

  // Whether no 20 ms of the window are above `quiet_db`.
  quiet() {
    const frame = Math.max(1, Math.floor(this.settings.sample_rate / 50));
    const least = Math.pow(10, this.settings.quiet_db / 10);
    for (let at = 0; at + frame <= this.window.length; at += frame) {
      let power = 0;
      for (let i = at; i < at + frame; i++) power += this.window[i] * this.window[i];
      if (power / frame >= least) return false;
    }
    return true;
  }
}

if (typeof module !== "undefined") module.exports = { decodeWeights, Network, Detector, Listener, softmax };
