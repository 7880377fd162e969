// Opens a page of `stapes explain` in headless Chromium and checks it: node page.mjs CHROMIUM FILE.html ID..
// Talks to the browser through its DevTools protocol over a pipe, without any package. Prints what is wrong, a line each,
// and exits with 1; with 77 if the browser does not start on this system.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [chromium, file, ...ids] = process.argv.slice(2);
const profile = mkdtempSync(join(tmpdir(), "stapes-browser-"));
const flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--mute-audio", "--autoplay-policy=no-user-gesture-required",
  "--no-first-run", "--disable-background-networking", "--remote-debugging-pipe", `--user-data-dir=${profile}`, "about:blank"];
const browser = spawn(chromium, flags, { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"], detached: true });
const faults = [];
const waiting = new Map();
const listeners = [];
let number = 0;
let unread = "";
// A browser that ends closes them; its end is what counts.
for (const pipe of [browser.stdio[3], browser.stdio[4]]) pipe.on("error", () => {});
browser.stdio[4].on("data", (data) => {
  const messages = (unread + data).split("\0");
  unread = messages.pop();
  for (const text of messages) {
    const message = JSON.parse(text);
    if (message.id) waiting.get(message.id)?.(message);
    else listeners.forEach((listen) => listen(message));
  }
});
const send = (method, params = {}, sessionId = undefined) => new Promise((done, failed) => {
  const id = ++number;
  waiting.set(id, (message) => (message.error ? failed(new Error(`${method}: ${message.error.message}`)) : done(message.result)));
  browser.stdio[3].write(JSON.stringify({ id, method, params, sessionId }) + "\0");
});

let started = false;
async function check() {
  await send("Browser.getVersion");
  started = true;
  const { targetId } = await send("Target.createTarget", { url: "about:blank" });
  const { sessionId } = await send("Target.attachToTarget", { targetId, flatten: true });
  const tell = (method, params) => send(method, params, sessionId);
  const evaluate = async (expression) => {
    const { result, exceptionDetails } = await tell("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
    if (exceptionDetails) faults.push(`the page cannot compute ${expression.slice(0, 60)}: ${exceptionDetails.exception?.description}`);
    return result.value;
  };
  let loaded;
  const load = new Promise((done) => (loaded = done));
  listeners.push(({ method, params }) => {
    if (method === "Page.loadEventFired") loaded();
    if (method === "Runtime.exceptionThrown") faults.push(`exception: ${params.exceptionDetails.exception?.description}`);
    if (method === "Runtime.consoleAPICalled" && params.type === "error") faults.push(`console error: ${params.args[0]?.value}`);
    if (method === "Log.entryAdded" && params.entry.level === "error") faults.push(`log: ${params.entry.text}`);
    if (method === "Network.requestWillBeSent" && !/^(file|data|blob):/.test(params.request.url)) {
      faults.push(`a request leaves the page: ${params.request.url}`);
    }
  });
  for (const domain of ["Page", "Runtime", "Log", "Network"]) await tell(`${domain}.enable`);
  await tell("Page.navigate", { url: pathToFileURL(resolve(file)).href });
  await load;

  for (const id of ids) {
    if (!(await evaluate(`!!document.querySelector('section#${id} h2') && !!document.querySelector('nav a[href="#${id}"]')`))) {
      faults.push(`there is no section ${id} with a heading and a link to it`);
    }
  }
  const sounds = await evaluate(`Promise.all([...document.querySelectorAll("audio")].map((audio) => new Promise((done) => {
    audio.addEventListener("loadedmetadata", () => done(audio.duration > 0 ? "" : "an audio element has no duration"));
    audio.addEventListener("error", () => done("an audio element does not decode: " + audio.getAttribute("aria-label")));
    audio.preload = "metadata";
    audio.load();
  }))).then((all) => ({ count: all.length, faults: all.filter((fault) => fault) }))`);
  if (!sounds || sounds.count === 0) faults.push("there are no audio elements");
  faults.push(...(sounds?.faults ?? []));
  faults.push(...((await evaluate(`[...document.querySelectorAll("svg, img, audio")].filter((element) =>
    !(element.getAttribute("aria-label") || element.getAttribute("alt"))).map((element) => "an element has no description: " + element.tagName)`)) ?? []));
  faults.push(...((await evaluate(`[...document.querySelectorAll("svg image")].filter((image) =>
    !image.href.baseVal.startsWith("data:image/png;base64,")).map(() => "a picture is no PNG inside the page")`)) ?? []));

  // The Tab key reaches links, tables and sounds; in a picture the arrow keys go from clip to clip.
  const press = async (key, code) => {
    for (const type of ["keyDown", "keyUp"]) await tell("Input.dispatchKeyEvent", { type, key, code: key, windowsVirtualKeyCode: code });
  };
  const reached = new Set();
  for (let i = 0; i < 400; i++) {
    await press("Tab", 9);
    const what = await evaluate(`document.activeElement.dataset?.clip ? "CLIP" : document.activeElement.tagName`);
    reached.add(what);
    if (what === "CLIP") break;
  }
  for (const what of ["A", "AUDIO", "DIV", "CLIP"]) if (!reached.has(what)) faults.push(`the Tab key does not reach ${what}`);
  if (reached.has("CLIP")) {
    const before = await evaluate("document.activeElement.dataset.clip");
    await press("ArrowRight", 39);
    if ((await evaluate("document.activeElement.dataset.clip")) === before) faults.push("the arrow keys do not move between clips");
    await press("Enter", 13);
  }

  for (const width of [400, 1280]) {
    await tell("Emulation.setDeviceMetricsOverride", { width, height: 900, deviceScaleFactor: 1, mobile: false });
    const wide = await evaluate("document.documentElement.scrollWidth");
    if (wide > width) faults.push(`the page is ${wide} pixels wide in a window of ${width}`);
  }
}

const late = setTimeout(() => { faults.push("the browser does not answer"); end(); }, 120_000);
browser.on("exit", () => { if (!started) { faults.push("the browser does not start"); end(); } });
function end() {
  clearTimeout(late);
  faults.forEach((fault) => console.log(fault));
  process.exitCode = !started ? 77 : faults.length ? 1 : 0;
  const clean = () => {
    // Processes of the browser may still write.
    try { rmSync(profile, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 }); } catch { /* the system removes it */ }
    process.exit();
  };
  browser.once("exit", clean);
  if (!started && browser.exitCode !== null) clean();
  try { process.kill(-browser.pid, "SIGKILL"); } catch { clean(); }
}
browser.on("error", (error) => { faults.push(`the browser cannot be started: ${error.message}`); end(); });
check().catch((error) => faults.push(error.message)).finally(end);
