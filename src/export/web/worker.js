// Computes in the background, so that the page stays responsive: takes samples, answers with words and probabilities.
const weights = decodeWeights(DESCRIPTION.weights);
const network = new Network(DESCRIPTION, weights);
let settings = DESCRIPTION.settings, listener = null;

// The time from window to window: that of the settings, or longer on a device that takes longer for a window.
const begun = performance.now();
for (let i = 0; i < 3; i++) network.logits(new Float32Array(network.length).fill(0.01));
const seconds = (performance.now() - begun) / 3000;
const hop = Math.max(Math.round((settings.hop_ms / 1000) * settings.sample_rate), Math.ceil(seconds * 1.5 * settings.sample_rate));
const begin = () => (listener = new Listener(network, settings, Math.min(hop, network.length)));
begin();
postMessage({ ready: true, window_ms: seconds * 1000, hop_ms: (listener.hop / settings.sample_rate) * 1000 });

onmessage = ({ data }) => {
  const onWord = (event) => postMessage({ event });
  if (data.begin) begin();
  if (data.thresholds) settings.thresholds = data.thresholds;
  if (data.samples) {
    let last = null;
    listener.push(data.samples, onWord, (average) => (last = average));
    if (last) postMessage({ average: last });
  }
  if (data.finish) {
    listener.finish(onWord);
    postMessage({ finished: true, seconds: listener.samples / settings.sample_rate });
  }
  if (data.logits) postMessage({ logits: Array.from(network.logits(data.logits)) });
};
