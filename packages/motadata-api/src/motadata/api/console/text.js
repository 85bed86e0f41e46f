// Shows an answer's text: code, emphasis and citation marks; everything else as it is.

import { element } from "./dom.js";

const FENCE = /```[^\n`]*\n([\s\S]*?)(?:\n?```|$)/g;
const INLINE = /`([^`\n]+)`|\*\*([^*\n]+)\*\*|\[(\d{1,3})\]/g;

// `mark` returns the node for the citation of a number, or null when there is none.
export function richText(text, mark) {
  const root = element("div", { className: "answer-text" });
  let end = 0;
  for (const match of text.matchAll(FENCE)) {
    inline(root, text.slice(end, match.index), mark);
    root.append(element("pre", {}, element("code", { text: match[1] })));
    end = match.index + match[0].length;
  }
  inline(root, text.slice(end), mark);
  return root;
}

function inline(root, text, mark) {
  if (text.trim() === "") return;
  const block = element("p");
  let end = 0;
  for (const match of text.matchAll(INLINE)) {
    const [whole, code, strong, number] = match;
    const node = code ? element("code", { text: code })
      : strong ? element("strong", { text: strong })
      : mark(Number(number));
    if (node === null) continue;
    block.append(text.slice(end, match.index), node);
    end = match.index + whole.length;
  }
  block.append(text.slice(end));
  root.append(block);
}

// Offsets of the API count Unicode characters, those of JavaScript UTF-16 units: returns what turns
// one into the other for this text.
export function offsetsIn(text) {
  if (!/[\ud800-\udbff]/.test(text)) return (offset) => offset;
  return (offset) => {
    let unit = 0;
    for (let left = offset; left > 0 && unit < text.length; left -= 1) {
      unit += text.codePointAt(unit) > 0xffff ? 2 : 1;
    }
    return unit;
  };
}
