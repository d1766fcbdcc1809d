"use strict";

const TOP = 5;
const EDGE = 448;  // pixels of the canvas
const COLOURS = [[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]];  // inferno's

const by = (id) => document.getElementById(id);
let backends = [];
let asking = new AbortController();
let panels = [];

function element(kind, name, text) {
  const made = document.createElement(kind);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  return made;
}

async function answer(response) {
  const content = await response.json();
  if (!response.ok) throw new Error(content.error);
  return content;
}

function why(error) {
  return error instanceof TypeError ? "The server does not answer." : error.message;
}

/** The colour of a share between 0 and 1: [red, green, blue]. */
function colour(share) {
  const place = share * (COLOURS.length - 1);
  const low = Math.min(Math.floor(place), COLOURS.length - 2);
  return COLOURS[low].map((value, i) => value + (place - low) * (COLOURS[low + 1][i] - value));
}

/** The map as an image of one pixel a patch, from its least to its largest value. */
function heat(map) {
  const canvas = element("canvas");
  canvas.width = canvas.height = map.length;
  const context = canvas.getContext("2d");
  const image = context.createImageData(map.length, map.length);
  const values = map.flat();
  const least = Math.min(...values);
  const range = Math.max(...values) - least || 1;
  values.forEach((value, i) => image.data.set([...colour((value - least) / range), 255], 4 * i));
  context.putImageData(image, 0, 0);
  return canvas;
}

/** The image as the model sees it; or in grey, with the map over it. */
function draw({canvas, image, map}) {
  const context = canvas.getContext("2d");
  const over = map !== null && by("show").checked;
  context.imageSmoothingEnabled = image.width > 64;
  context.drawImage(image, 0, 0, EDGE, EDGE);
  if (over) {
    context.globalCompositeOperation = "saturation";  // of grey, which has none
    context.fillStyle = "grey";
    context.fillRect(0, 0, EDGE, EDGE);
    context.globalCompositeOperation = "source-over";
    context.globalAlpha = 0.6;
    context.imageSmoothingEnabled = true;
    context.imageSmoothingQuality = "high";
    context.drawImage(heat(map), 0, 0, EDGE, EDGE);
    context.globalAlpha = 1;
  }
}

function bars(predictions) {
  const list = element("ol");
  for (const {class: name, probability} of predictions) {
    const row = element("li");
    const track = element("span", "track");
    const bar = element("div", "bar");
    bar.style.width = `${100 * probability}%`;
    track.append(bar);
    row.append(element("span", "name", name), element("span", "value", `${(100 * probability).toFixed(1)} %`), track);
    list.append(row);
  }
  return list;
}

async function ask(backend, file, signal) {
  const begin = performance.now();
  const article = element("article");
  const head = element("h2", "", backend.title);
  article.append(head, element("p", "", "…"));
  by("results").append(article);
  const attention = Number(backend.attention);
  try {
    const found = await answer(await fetch(`predict?backend=${backend.name}&top_k=${TOP}&attention=${attention}`, {
      method: "POST", body: file, signal, headers: {"Content-Type": file.type || "application/octet-stream"}}));
    const parts = [head, bars(found.predictions)];
    head.append(element("small", "", `${Math.round(performance.now() - begin)} ms`));
    if (found.image) {
      const image = new Image();
      image.src = found.image;
      await image.decode();
      const canvas = element("canvas");
      canvas.width = canvas.height = EDGE;
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", "The image as the model sees it, and where its attention is");
      const panel = {canvas, image, map: found.attention};
      draw(panel);
      panels.push(panel);
      parts.splice(1, 0, canvas);
    }
    article.replaceChildren(...parts);
    return found;
  } catch (error) {
    article.remove();
    throw error;
  }
}

/** The largest difference between the probabilities that frameworks give to one class. */
function difference(answers) {
  const spread = {};
  for (const {predictions} of answers) {
    for (const {class: name, probability} of predictions) (spread[name] ??= []).push(probability);
  }
  return Math.max(...Object.values(spread).map((values) => Math.max(...values) - Math.min(...values)));
}

async function show(file) {
  asking.abort();
  asking = new AbortController();
  const {signal} = asking;
  panels = [];
  by("results").replaceChildren();
  by("shown").hidden = true;
  by("error").textContent = by("difference").textContent = "";
  by("status").textContent = `Looking at ${file.name} …`;
  const all = await Promise.allSettled(backends.map((backend) => ask(backend, file, signal)));
  if (signal.aborted) return;
  const answers = all.filter((one) => one.status === "fulfilled").map((one) => one.value);
  const faults = new Set(all.filter((one) => one.status === "rejected").map((one) => why(one.reason)));
  by("error").textContent = [...faults].join("; ");
  by("shown").hidden = panels.length === 0;
  by("status").textContent = answers.length ? `${file.name}: ${answers[0].predictions[0].class}` : "";
  if (answers.length > 1) {
    const most = difference(answers);
    by("difference").textContent = most === 0 ? "The frameworks' probabilities are equal."
      : `The frameworks' probabilities differ by ${most.toExponential(1)} at most.`;
  }
}

const drop = document.querySelector(".drop");
by("file").addEventListener("change", (event) => {
  if (event.target.files.length) show(event.target.files[0]);
  event.target.value = "";  // the same file may be chosen again
});
by("show").addEventListener("change", () => panels.forEach(draw));
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files.length) show(event.dataTransfer.files[0]);
  });
}

fetch("health").then(answer).then((about) => {
  backends = about.backends;
  by("model").textContent = `${about.file}: ${about.classes.toLocaleString("en")} classes, ` +
    `images of ${about.image_size} × ${about.image_size} pixels`;
}).catch((error) => { by("error").textContent = why(error); });
