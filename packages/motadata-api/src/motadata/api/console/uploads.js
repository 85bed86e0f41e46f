// Files on their way: dropped or chosen, sent one after the other, each with its progress.

import { upload } from "./api.js";
import { announce, byId, element, show } from "./dom.js";

const STAGES = {
  waiting: "Waiting",
  sending: "Sending",
  queued: "Received",
  loading: "Reading",
  storing: "Storing",
  done: "Done",
  failed: "Failed",
  cancelled: "Cancelled",
};
const OUTCOMES = { created: "Added", updated: "New version", unchanged: "Unchanged" };
const MAX_FILES = 5000;

const waiting = [];
let working = false;
let onStored = () => {};

export function startUploads(handler) {
  onStored = handler;
  const drop = byId("drop");
  const input = byId("files");
  input.addEventListener("change", () => {
    add([...input.files].map((file) => ({ file, name: file.name })));
    input.value = "";
  });
  // A file dropped beside the field must not replace the page.
  for (const kind of ["dragover", "drop"]) {
    window.addEventListener(kind, (event) => event.preventDefault());
  }
  let inside = 0;
  drop.addEventListener("dragenter", () => drop.classList.toggle("over", (inside += 1) > 0));
  drop.addEventListener("dragleave", () => drop.classList.toggle("over", (inside -= 1) > 0));
  drop.addEventListener("drop", async (event) => {
    inside = 0;
    drop.classList.remove("over");
    add(await filesOf(event.dataTransfer));
  });
  byId("clear-uploads").addEventListener("click", () => {
    for (const row of [...byId("uploads").children]) {
      if (["done", "failed", "cancelled"].includes(row.dataset.stage)) row.remove();
    }
    show(byId("uploads-box"), byId("uploads").children.length > 0);
  });
}

// Forgets what has not been sent yet.
export function stopUploads() {
  for (const item of waiting.splice(0)) item.step("cancelled");
  byId("uploads").replaceChildren();
  show(byId("uploads-box"), false);
}

// Folders come as entries, which have to be taken out before the event is over.
async function filesOf(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (entries.length === 0) return [...transfer.files].map((file) => ({ file, name: file.name }));
  const found = [];
  for (const entry of entries) await walk(entry, "", found);
  return found;
}

async function walk(entry, folder, found) {
  if (entry.name.startsWith(".") || found.length >= MAX_FILES) return;
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    found.push({ file, name: folder + entry.name });
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    const batch = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (batch.length === 0) return;
    for (const inner of batch) await walk(inner, `${folder}${entry.name}/`, found);
  }
}

function add(files) {
  for (const { file, name } of files) {
    const item = row(file, name);
    waiting.push(item);
    byId("uploads").append(item.node);
  }
  show(byId("uploads-box"), byId("uploads").children.length > 0);
  work();
}

async function work() {
  if (working) return;
  working = true;
  let stored = 0;
  while (waiting.length > 0) {
    if (await send(waiting.shift())) {
      stored += 1;
      onStored();
    }
  }
  working = false;
  if (stored > 0) announce(`${stored} ${stored === 1 ? "file is" : "files are"} stored.`);
}

async function send(item) {
  if (item.cancelled) return false;
  item.step("sending");
  const sending = upload(item.file, item.name, {
    onSent: (share) => item.sent(share),
    onStage: (stage) => item.step(stage),
  });
  item.cancel = sending.cancel;
  try {
    item.stored(await sending.done);
    return true;
  } catch (error) {
    if (error.name === "AbortError") {
      item.step("cancelled");
    } else {
      item.failed(error.problem || { message: "The page failed to send it." });
      announce(`${item.name} failed.`);
    }
    return false;
  }
}

function row(file, name) {
  const state = element("span", { className: "stage", text: STAGES.waiting });
  const bar = element("progress", { attributes: { max: "1", value: "0" } });
  bar.setAttribute("aria-label", `Progress of ${name}`);
  const reason = element("p", { className: "problem small" });
  show(reason, false);
  const stop = element("button", {
    className: "quiet small",
    text: "Cancel",
    attributes: { type: "button", "aria-label": `Cancel ${name}` },
  });
  const node = element(
    "li",
    { attributes: { "data-stage": "waiting", "data-name": name } },
    element("div", { className: "upload-line" },
      element("span", { className: "name", text: name, attributes: { title: name } }), state, stop),
    bar,
    reason,
  );
  const item = { file, name, node, cancelled: false, cancel: () => {} };
  const end = (stage) => {
    node.dataset.stage = stage;
    bar.remove();
    stop.remove();
  };
  item.step = (stage) => {
    node.dataset.stage = stage;
    state.textContent = STAGES[stage] || stage;
    if (stage === "cancelled") end(stage);
    // Reading and storing have no measure: the bar then shows that something goes on.
    else if (stage !== "sending" && stage !== "waiting") bar.removeAttribute("value");
  };
  item.sent = (share) => {
    if (node.dataset.stage !== "sending") return;
    bar.value = share;
    state.textContent = share < 1 ? `Sending ${Math.floor(share * 100)}%` : "Sent";
  };
  item.stored = (outcome) => {
    end("done");
    state.textContent = OUTCOMES[outcome.outcome] || STAGES.done;
    if (outcome.document && !outcome.document.embedded) state.textContent += " · words only";
  };
  item.failed = (problem) => {
    end("failed");
    state.textContent = STAGES.failed;
    reason.textContent = [problem.message, problem.remedy].filter(Boolean).join(" ");
    show(reason);
  };
  stop.addEventListener("click", () => {
    item.cancelled = true;
    item.cancel();
    if (node.dataset.stage === "waiting") item.step("cancelled");
  });
  return item;
}
