"use strict";
const settings = DESCRIPTION.settings;
const element = (id) => document.getElementById(id);
const worker = new Worker(URL.createObjectURL(new Blob([WORKER], { type: "text/javascript" })));
const isWord = (word) => !/^_(unknown|silence)_$/.test(word);
let context = null, nodes = [], pending = null;

const say = (text) => (element("status").textContent = text);

// A bar for each word.
const bars = settings.words.map((word) => {
  const row = document.createElement("div");
  const name = document.createElement("span");
  name.textContent = { _unknown_: "other words", _silence_: "no word" }[word] ?? word;
  const bar = document.createElement("meter");
  bar.min = 0;
  bar.max = 1;
  bar.setAttribute("aria-label", "probability of " + word);
  row.append(name, bar);
  element("bars").append(row);
  return bar;
});

function detected(event) {
  const item = document.createElement("li");
  const word = document.createElement("b");
  word.textContent = event.word;
  const rest = document.createElement("span");
  rest.textContent = `${event.probability.toFixed(2)} at ${event.time.toFixed(1)} s`;
  item.append(word, rest);
  element("words").prepend(item);
  element("last").textContent = event.word;
  while (element("words").children.length > 50) element("words").lastChild.remove();
}

worker.onmessage = ({ data }) => {
  if (data.ready) {
    say("Ready. A window takes " + data.window_ms.toFixed(0) + " ms here; a new one begins every " + data.hop_ms.toFixed(0) + " ms.");
    element("listen").disabled = element("file").disabled = false;
  }
  if (data.event) detected(data.event);
  if (data.average) data.average.forEach((p, i) => (bars[i].value = p));
  if (data.finished) say("Listened to " + data.seconds.toFixed(1) + " s of sound.");
  if (data.logits && pending) pending(data.logits);
};
worker.onerror = (error) => say("The network cannot be computed in this browser: " + error.message);

// The microphone at its own rate; a worklet hands on what arrives, and the browser resamples to the network's rate.
const WORKLET = `registerProcessor("samples", class extends AudioWorkletProcessor {
  process(inputs) { if (inputs[0][0]) this.port.postMessage(inputs[0][0].slice()); return true; }
});`;

async function start() {
  if (!navigator.mediaDevices) throw new Error("this browser gives a page no microphone here; open the page over https or from this computer");
  const stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false } });
  context = new AudioContext({ sampleRate: settings.sample_rate });
  await context.audioWorklet.addModule("data:text/javascript," + encodeURIComponent(WORKLET)); // a page on disk may not load a blob here
  const source = context.createMediaStreamSource(stream);
  const samples = new AudioWorkletNode(context, "samples", { numberOfOutputs: 0 });
  samples.port.onmessage = ({ data }) => worker.postMessage({ samples: data });
  source.connect(samples);
  nodes = [source, samples];
  stream.getTracks()[0].onended = () => { stop(); say("The microphone was disconnected."); };
  worker.postMessage({ begin: true });
  element("listen").textContent = "Stop";
  say("Listening.");
}

function stop() {
  for (const node of nodes) node.disconnect();
  if (nodes[0]) nodes[0].mediaStream.getTracks().forEach((track) => track.stop());
  if (context) context.close();
  context = null;
  nodes = [];
  worker.postMessage({ finish: true });
  element("listen").textContent = "Listen";
}

element("listen").onclick = () => {
  if (context) return stop();
  start().catch((error) => say("No microphone: " + error.message));
};

element("file").onchange = async ({ target }) => {
  const file = target.files[0];
  if (!file) return;
  try {
    // Decoding resamples to the rate of the context.
    const decoder = new OfflineAudioContext(1, 1, settings.sample_rate);
    const sound = await decoder.decodeAudioData(await file.arrayBuffer());
    const mono = new Float32Array(sound.length);
    for (let c = 0; c < sound.numberOfChannels; c++) {
      const channel = sound.getChannelData(c);
      for (let i = 0; i < mono.length; i++) mono[i] += channel[i] / sound.numberOfChannels;
    }
    worker.postMessage({ begin: true });
    worker.postMessage({ samples: mono });
    worker.postMessage({ finish: true });
    say("Listening to " + file.name + ".");
  } catch (error) {
    say(file.name + " is no sound that this browser can decode.");
  }
  target.value = "";
};

element("threshold").oninput = ({ target }) => {
  const threshold = Number(target.value);
  element("threshold-value").textContent = threshold.toFixed(2);
  worker.postMessage({ thresholds: settings.words.map((word) => (isWord(word) ? threshold : Infinity)) });
};

// For tests and for other scripts: the logits of a window.
window.stapes = {
  settings,
  logits: (samples) => new Promise((done) => { pending = done; worker.postMessage({ logits: Float32Array.from(samples) }); }),
};
