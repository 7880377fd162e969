// Opens a page of `stapes explain` in headless Chromium and checks it: node page.mjs CHROMIUM FILE.html ID..
// Prints what is wrong, a line each, and exits with 1; with 77 if the browser does not start on this system.
import { open, start } from "./driver.mjs";

const [chromium, file, ...ids] = process.argv.slice(2);
const faults = [];
const { browser, send, listeners, close } = start(chromium);

let started = false;
async function check() {
  await send("Browser.getVersion");
  started = true;
  const { tell, evaluate } = await open({ send, listeners }, file, faults);

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
    const cut = await evaluate("[...document.querySelectorAll('.beside figure')].filter((f) => f.scrollWidth > f.clientWidth + 1).length");
    if (cut > 0) faults.push(`${cut} of the figures side by side are cut in a window of ${width}`);
  }
}

const late = setTimeout(() => { faults.push("the browser does not answer"); end(); }, 120_000);
browser.on("exit", () => { if (!started) { faults.push("the browser does not start"); end(); } });
let ended = false;
async function end() {
  if (ended) return;
  ended = true;
  clearTimeout(late);
  faults.forEach((fault) => console.log(fault));
  await close();
  process.exit(!started ? 77 : faults.length ? 1 : 0);
}
browser.on("error", (error) => { faults.push(`the browser cannot be started: ${error.message}`); end(); });
check().catch((error) => faults.push(error.message)).finally(end);
