// Computes the logits of inputs with the network in a page of `stapes export --format web`: node engine.js ENGINE PAGE INPUTS.json
const { readFileSync } = require("node:fs");
const { resolve } = require("node:path");
const [engine, page, inputs] = process.argv.slice(2);
const { Network, decodeWeights, Detector } = require(resolve(engine));
const description = JSON.parse(readFileSync(page, "utf8").match(/^const DESCRIPTION = (.*);$/m)[1]);
const network = new Network(description, decodeWeights(description.weights));
const logits = JSON.parse(readFileSync(inputs, "utf8")).map((samples) => Array.from(network.logits(Float32Array.from(samples))));
// What the detector makes of the same course of probabilities that the test gives to the library's.
const settings = { ...description.settings, words: ["a", "b"], thresholds: [0.8, 0.8] };
const detector = new Detector(settings, 0.02);
const detected = [];
for (let w = 0; w < 300; w++) {
  const p = w % 120 < 40 ? [0.95, 0.05] : w % 120 < 50 ? [0.05, 0.9] : [0.5, 0.5];
  const decided = detector.push(w >= 200 && w < 220 ? null : p);
  if (decided) detected.push([w, decided.word, decided.probability]);
}
console.log(JSON.stringify({ logits, detected }));
