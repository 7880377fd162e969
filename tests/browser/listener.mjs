// Opens a page of `stapes export --format web` in headless Chromium, with a WAV file in place of the microphone: node listener.mjs CHROMIUM PAGE WAV INPUTS.json
// Prints as JSON the words that the page detected, its logits for the inputs, its errors and its requests. Exits with 77 if the browser does not start on this system.
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [chromium, page, wav, inputs] = process.argv.slice(2);
const profile = mkdtempSync(join(tmpdir(), "stapes-browser-"));
const flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--mute-audio", "--autoplay-policy=no-user-gesture-required",
  "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", `--use-file-for-fake-audio-capture=${resolve(wav)}`,
  "--no-first-run", "--disable-background-networking", "--remote-debugging-pipe", `--user-data-dir=${profile}`, "about:blank"];
const browser = spawn(chromium, flags, { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"], detached: true });
const waiting = new Map(), errors = [], requests = [];
let number = 0, unread = "", started = false;
for (const pipe of [browser.stdio[3], browser.stdio[4]]) pipe.on("error", () => {});
browser.stdio[4].on("data", (data) => {
  const messages = (unread + data).split("\0");
  unread = messages.pop();
  for (const text of messages) {
    const { id, method, params, result, error } = JSON.parse(text);
    if (id) waiting.get(id)?.(error ? { error } : { result });
    if (method === "Runtime.exceptionThrown") errors.push(`exception: ${params.exceptionDetails.exception?.description}`);
    if (method === "Log.entryAdded" && params.entry.level === "error") errors.push(`log: ${params.entry.text}`);
    if (method === "Network.requestWillBeSent" && !/^(file|data|blob):/.test(params.request.url)) requests.push(params.request.url);
  }
});
const send = (method, params = {}, sessionId = undefined) => new Promise((done, failed) => {
  const id = ++number;
  waiting.set(id, ({ result, error }) => (error ? failed(new Error(`${method}: ${error.message}`)) : done(result)));
  browser.stdio[3].write(JSON.stringify({ id, method, params, sessionId }) + "\0");
});

async function check() {
  await send("Browser.getVersion");
  started = true;
  const { targetId } = await send("Target.createTarget", { url: "about:blank" });
  const { sessionId } = await send("Target.attachToTarget", { targetId, flatten: true });
  const tell = (method, params) => send(method, params, sessionId);
  const evaluate = async (expression) => {
    const { result, exceptionDetails } = await tell("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true, userGesture: true });
    if (exceptionDetails) errors.push(`the page cannot compute ${expression.slice(0, 60)}: ${exceptionDetails.exception?.description}`);
    return result.value;
  };
  const until = async (expression) => {
    for (let i = 0; i < 300; i++) {
      if (await evaluate(expression)) return;
      await new Promise((done) => setTimeout(done, 100));
    }
    errors.push(`this did not become true: ${expression}; the page says: ${await evaluate("document.getElementById('status').textContent")}`);
  };
  for (const domain of ["Page", "Runtime", "Log", "Network"]) await tell(`${domain}.enable`);
  await tell("Page.navigate", { url: pathToFileURL(resolve(page)).href });
  await until("document.readyState === 'complete' && !!window.stapes && !document.getElementById('listen').disabled");
  const logits = [];
  for (const samples of JSON.parse(readFileSync(inputs, "utf8"))) logits.push(await evaluate(`stapes.logits(${JSON.stringify(samples)})`));
  await evaluate("document.getElementById('listen').click()");
  await until("document.querySelectorAll('#words li').length > 0");
  await evaluate("document.getElementById('listen').click()");
  await until("/^Listened/.test(document.getElementById('status').textContent)");
  const detected = await evaluate("[...document.querySelectorAll('#words b')].map((word) => word.textContent)");
  const labelled = await evaluate("[...document.querySelectorAll('button,input,meter')].every((of) => !!(of.textContent || of.getAttribute('aria-label') || of.closest('label')))");
  console.log(JSON.stringify({ detected, logits, errors, requests, labelled }));
}

const late = new Promise((_, failed) => setTimeout(() => failed(new Error("the page did not finish in two minutes")), 120_000).unref());
const ended = new Promise((_, failed) => browser.on("exit", () => failed(new Error("the browser ended"))));
let code = 0;
try {
  await Promise.race([check(), late, ended]);
} catch (error) {
  console.log(String(error));
  code = started ? 1 : 77;
}
try { process.kill(-browser.pid, "SIGKILL"); } catch { /* it has ended */ }
try { rmSync(profile, { recursive: true, force: true }); } catch { /* the browser may still write */ }
process.exit(code);
