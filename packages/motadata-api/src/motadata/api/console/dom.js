// Builds elements. Text goes in as text nodes only: what documents hold never becomes markup.

export const byId = (id) => document.getElementById(id);

export function element(name, options = {}, ...children) {
  const node = document.createElement(name);
  const { className, text, on = {}, attributes = {} } = options;
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  for (const [event, handler] of Object.entries(on)) node.addEventListener(event, handler);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

export function show(node, visible = true) {
  node.hidden = !visible;
}

// Screen readers speak what changes here.
export function announce(text) {
  byId("announce").textContent = text;
}

export function showProblem(node, problem) {
  node.textContent = problem ? [problem.message, problem.remedy].filter(Boolean).join(" ") : "";
  show(node, Boolean(problem));
}
