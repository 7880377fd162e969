// Opens a page of `stapes export --format web` in headless Chromium, with a WAV file in place of the microphone: node listener.mjs CHROMIUM PAGE WAV INPUTS.json
// Prints as JSON the words that the page detected, its logits for the inputs, and its faults. Exits with 77 if the browser does not start on this system.
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { open, start } from "./driver.mjs";

const [chromium, page, wav, inputs] = process.argv.slice(2);
const faults = [];
const { browser, send, listeners, close } = start(chromium, [
  "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", `--use-file-for-fake-audio-capture=${resolve(wav)}`,
]);

let started = false;
async function check() {
  await send("Browser.getVersion");
  started = true;
  const { evaluate } = await open({ send, listeners }, page, faults);
  const until = async (expression) => {
    for (let i = 0; i < 300; i++) {
      if (await evaluate(expression)) return;
      await new Promise((done) => setTimeout(done, 100));
    }
    faults.push(`this did not become true: ${expression}; the page says: ${await evaluate("document.getElementById('status').textContent")}`);
  };
  await until("!!window.stapes && !document.getElementById('listen').disabled");
  const logits = [];
  for (const samples of JSON.parse(readFileSync(inputs, "utf8"))) logits.push(await evaluate(`stapes.logits(${JSON.stringify(samples)})`));
  await evaluate("document.getElementById('listen').click()");
  await until("document.querySelectorAll('#words li').length > 0");
  await evaluate("document.getElementById('listen').click()");
  await until("/^Listened/.test(document.getElementById('status').textContent)");
  const detected = await evaluate("[...document.querySelectorAll('#words b')].map((word) => word.textContent)");
  const labelled = await evaluate("[...document.querySelectorAll('button,input,meter')].every((of) => !!(of.textContent || of.getAttribute('aria-label') || of.closest('label')))");
  console.log(JSON.stringify({ detected, logits, faults, labelled }));
}

const late = new Promise((_, failed) => setTimeout(() => failed(new Error("the page did not finish in two minutes")), 120_000).unref());
const ended = new Promise((_, failed) => {
  browser.on("exit", () => failed(new Error("the browser ended")));
  browser.on("error", failed);
});
let code = 0;
try {
  await Promise.race([check(), late, ended]);
} catch (error) {
  console.log(String(error));
  code = started ? 1 : 77;
}
ended.catch(() => {});
await close();
process.exit(code);
