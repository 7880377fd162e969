// Opens a page of `stapes export --format web` in a headless Chromium with a WAV file in place of the microphone: node listener.mjs CHROMIUM PAGE WAV INPUTS.json
// Prints as JSON what the page detected in the microphone, its logits for the inputs, its errors and its requests. Exit code 77: the browser does not start.
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

const [chromium, page, wav, inputs] = process.argv.slice(2);
const profile = mkdtempSync(join(tmpdir(), "stapes-browser-"));
const browser = spawn(chromium, [
  "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--autoplay-policy=no-user-gesture-required",
  "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", `--use-file-for-fake-audio-capture=${resolve(wav)}%noloop`,
  `--user-data-dir=${profile}`, "about:blank",
], { stdio: ["ignore", "ignore", "pipe"] });
const end = (code) => {
  browser.kill("SIGKILL");
  try { rmSync(profile, { recursive: true, force: true }); } catch { /* the browser may still write */ }
  process.exit(code);
};
let told = "";
const address = await new Promise((done) => {
  const late = setTimeout(() => done(null), 60_000);
  browser.stderr.on("data", (text) => {
    told += text;
    const found = told.match(/DevTools listening on (ws:\S+)/);
    if (found) { clearTimeout(late); done(found[1]); }
  });
  browser.on("exit", () => done(null));
});
if (!address) { console.log("the browser does not start: " + told.slice(-500)); end(77); }

const port = new URL(address).port;
const tabs = await (await fetch(`http://127.0.0.1:${port}/json/list`)).json();
const socket = new WebSocket(tabs.find((tab) => tab.type === "page").webSocketDebuggerUrl);
await new Promise((open) => socket.addEventListener("open", open));
let next = 0;
const waiting = new Map(), errors = [], requests = [];
socket.addEventListener("message", ({ data }) => {
  const message = JSON.parse(data);
  if (message.id) return waiting.get(message.id)(message);
  if (message.method === "Runtime.exceptionThrown") errors.push(message.params.exceptionDetails.exception?.description ?? message.params.exceptionDetails.text);
  if (message.method === "Log.entryAdded" && message.params.entry.level === "error") errors.push(message.params.entry.text);
  if (message.method === "Network.requestWillBeSent" && !/^(file|blob|data):/.test(message.params.request.url)) requests.push(message.params.request.url);
});
const send = (method, params = {}) => new Promise((done) => {
  waiting.set(++next, done);
  socket.send(JSON.stringify({ id: next, method, params }));
});
const evaluate = async (expression) => {
  const { result } = await send("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true, userGesture: true });
  if (result.exceptionDetails) throw new Error(JSON.stringify(result.exceptionDetails));
  return result.result.value;
};
const until = async (expression) => {
  for (let i = 0; i < 600; i++) {
    if (await evaluate(expression)) return true;
    await new Promise((done) => setTimeout(done, 100));
  }
  errors.push("this did not become true: " + expression);
  return false;
};
for (const domain of ["Runtime", "Log", "Network", "Page"]) await send(domain + ".enable");
await send("Page.navigate", { url: "file://" + resolve(page) });
await until("document.readyState === 'complete' && window.stapes && !document.getElementById('listen').disabled");
const logits = [];
for (const samples of JSON.parse(readFileSync(inputs, "utf8"))) logits.push(await evaluate(`stapes.logits(${JSON.stringify(samples)})`));
await evaluate("document.getElementById('listen').click()");
await until("document.querySelectorAll('#words li').length > 0 || /No microphone/.test(document.getElementById('status').textContent)");
await evaluate("document.getElementById('listen').click()");
await until("/Listened/.test(document.getElementById('status').textContent)");
const detected = await evaluate("[...document.querySelectorAll('#words b')].map((word) => word.textContent)");
const status = await evaluate("document.getElementById('status').textContent");
const labelled = await evaluate("[...document.querySelectorAll('button,input,meter')].every((of) => of.textContent || of.getAttribute('aria-label') || of.closest('label'))");
console.log(JSON.stringify({ detected, logits, errors, requests, status, labelled }));
end(0);
