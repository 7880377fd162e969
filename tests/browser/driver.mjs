// A headless Chromium, talked to through its DevTools protocol over a pipe, without any package.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

// Starts the browser with further flags. `send` calls a method, `listeners` are called with every event, `close` ends the browser and removes its profile.
export function start(chromium, flags = []) {
  const profile = mkdtempSync(join(tmpdir(), "stapes-browser-"));
  const all = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--mute-audio", "--autoplay-policy=no-user-gesture-required",
    "--no-first-run", "--disable-background-networking", "--remote-debugging-pipe", `--user-data-dir=${profile}`, ...flags, "about:blank"];
  const browser = spawn(chromium, all, { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"], detached: true });
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
  const close = () => new Promise((done) => {
    const clean = () => {
      // Processes of the browser may still write.
      try { rmSync(profile, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 }); } catch { /* the system removes it */ }
      done();
    };
    if (browser.exitCode !== null || browser.pid === undefined) return clean();
    browser.once("exit", clean);
    try { process.kill(-browser.pid, "SIGKILL"); } catch { clean(); }
  });
  return { browser, send, listeners, close };
}

// Opens a file in a tab. Errors of the page and requests that leave it go to `faults`; `tell` calls a method of the tab, `evaluate` an expression in the page.
export async function open({ send, listeners }, file, faults) {
  const { targetId } = await send("Target.createTarget", { url: "about:blank" });
  const { sessionId } = await send("Target.attachToTarget", { targetId, flatten: true });
  const tell = (method, params) => send(method, params, sessionId);
  const evaluate = async (expression) => {
    const asked = { expression, awaitPromise: true, returnByValue: true, userGesture: true };
    const { result, exceptionDetails } = await tell("Runtime.evaluate", asked);
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
  return { tell, evaluate };
}
