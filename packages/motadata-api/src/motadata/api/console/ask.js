// Questions and their answers, each mark a way to its passage.

import { call } from "./api.js";
import { announce, byId, element, show } from "./dom.js";
import { openCitation } from "./passage.js";
import { richText } from "./text.js";

const MAX_ANSWERS = 30;

let asking = null;

export function startAsking() {
  const form = byId("ask-form");
  const question = byId("question");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    ask(question.value.trim());
  });
  question.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
  question.addEventListener("input", () => fit(question));
  byId("stop").addEventListener("click", () => asking?.abort());
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input, textarea, dialog");
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      question.focus();
    }
  });
}

export function clearAnswers() {
  asking?.abort();
  byId("answers").replaceChildren();
  show(byId("welcome"));
}

function fit(field) {
  field.style.height = "auto";
  field.style.height = `${Math.min(field.scrollHeight + 2, 240)}px`;
}

async function ask(query) {
  if (!query || asking) return;
  asking = new AbortController();
  const started = performance.now();
  const body = element("div", { className: "answer-body" },
    element("p", { className: "muted working", text: "Looking through the documents" }));
  const card = element("article", { className: "card answer", attributes: { "aria-busy": "true" } },
    element("h2", { className: "asked", text: query }), body);
  const answers = byId("answers");
  answers.prepend(card);
  while (answers.children.length > MAX_ANSWERS) answers.lastElementChild.remove();
  show(byId("welcome"), false);
  busy(true);
  try {
    const answer = await call("POST", "/v1/query", { body: { query }, signal: asking.signal });
    body.replaceChildren(...answered(answer, performance.now() - started));
    card.dataset.answered = String(answer.answered);
    const count = answer.citations.length;
    announce(`Answer with ${count} ${count === 1 ? "citation" : "citations"}.`);
    byId("question").value = "";
    fit(byId("question"));
  } catch (failure) {
    body.replaceChildren(refused(failure));
  } finally {
    card.removeAttribute("aria-busy");
    asking = null;
    busy(false);
  }
}

function busy(on) {
  byId("ask").disabled = on;
  show(byId("stop"), on);
}

function refused(failure) {
  if (failure.name === "AbortError") {
    return element("p", { className: "muted", text: "Stopped." });
  }
  const problem = failure.problem || { message: "The page failed to show the answer." };
  announce("The question failed.");
  const text = [problem.message, problem.remedy].filter(Boolean).join(" ");
  return element("p", { className: "problem", text });
}

function answered(answer, milliseconds) {
  const facts = [
    { rag: "from documents", agent: "by the agent", both: "by the agent, from documents" }[answer.mode],
    answer.model,
    answer.cached ? "kept from before" : null,
    `${(milliseconds / 1000).toFixed(1)} s`,
  ];
  const nodes = [richText(answer.answer, (number) => mark(answer.citations[number - 1], number))];
  if (!answer.answered) {
    nodes.push(element("p", {
      className: "muted small",
      text: "Your documents do not seem to hold this. Other words, or another document, may help.",
    }));
  }
  if (answer.citations.length > 0) {
    nodes.push(element("ol", { className: "citations", attributes: { "aria-label": "Citations" } },
      ...answer.citations.map(source)));
  }
  nodes.push(element("p", { className: "muted small facts", text: facts.filter(Boolean).join(" · "),
    attributes: { title: `trace ${answer.trace_id}` } }));
  return nodes;
}

function opens(citation, number) {
  return {
    attributes: {
      href: `#citation-${number}`,
      "aria-label": `Citation ${number}: ${citation.title}. Opens the passage.`,
    },
    on: {
      click: (event) => {
        event.preventDefault();
        openCitation(citation);
      },
    },
  };
}

function mark(citation, number) {
  if (!citation) return null;
  return element("a", { className: "mark", text: String(number), ...opens(citation, number) });
}

function source(citation, index) {
  const place = [
    citation.source === citation.title ? null : citation.source,
    citation.page === null ? null : `page ${citation.page}`,
    citation.heading,
  ];
  return element("li", {},
    element("a", { className: "citation", ...opens(citation, index + 1) },
      element("span", { className: "mark", text: String(index + 1), attributes: { "aria-hidden": "true" } }),
      element("span", { className: "citation-text" },
        element("strong", { text: citation.title || citation.source }),
        element("span", { className: "muted small", text: place.filter(Boolean).join(" · ") }),
        element("span", { className: "quote", text: citation.quote.replace(/\s+/g, " ").trim() }))));
}
