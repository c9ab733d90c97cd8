// Keeps a page as the server has it: takes the fragments that changed, and changes only what differs in them.
// So focus, selection, scrolling and what is folded open stay as they are.
"use strict";

const { live } = document.currentScript.dataset;
let { version } = document.currentScript.dataset;
const state = document.getElementById("connection");
let source = null;

function say(text) {
  if (state.textContent !== text) state.textContent = text;
  state.className = text === "live" ? "" : "lost";
}

// Makes the children of `here` equal to those of `next`. An element with an id is found by it, wherever it stands now.
function patch(here, next) {
  const wantedIds = new Set([...next.children].map((child) => child.id));
  const byId = new Map();
  for (const child of [...here.children]) {
    if (child.id && !wantedIds.has(child.id)) child.remove();
    else if (child.id) byId.set(child.id, child);
  }
  let place = here.firstChild;
  for (const wanted of [...next.childNodes]) {
    const named = wanted.id ? byId.get(wanted.id) : null;
    const same = named || (place && fits(place, wanted) ? place : null);
    if (!same) {
      here.insertBefore(wanted, place);
    } else {
      if (same !== place) here.insertBefore(same, place);
      else place = place.nextSibling;
      update(same, wanted);
    }
  }
  while (place) {
    const rest = place.nextSibling;
    place.remove();
    place = rest;
  }
}

function fits(node, wanted) {
  return node.nodeName === wanted.nodeName && !node.id && !wanted.id;
}

function update(node, wanted) {
  if (node.nodeType !== Node.ELEMENT_NODE) {
    if (node.nodeValue !== wanted.nodeValue) node.nodeValue = wanted.nodeValue;
    return;
  }
  const kept = node.nodeName === "DETAILS" ? "open" : "";
  for (const { name } of [...node.attributes]) if (name !== kept && !wanted.hasAttribute(name)) node.removeAttribute(name);
  for (const { name, value } of wanted.attributes) if (name !== kept && node.getAttribute(name) !== value) node.setAttribute(name, value);
  patch(node, wanted);
}

function take(event) {
  version = event.lastEventId;
  for (const [name, html] of Object.entries(JSON.parse(event.data))) {
    const here = document.getElementById(name);
    const next = document.createElement("template");
    next.innerHTML = html; // the server escaped every text in it, and nothing in a template runs
    if (here) update(here, next.content.firstElementChild);
  }
}

function look() {
  if (source) source.close();
  source = null;
  if (document.hidden) return; // a browser has few connections to one server: only what is looked at keeps one
  source = new EventSource(`${live}&since=${version}`);
  source.onopen = () => say("live");
  source.onmessage = take;
  source.onerror = () => say(
    source.readyState === EventSource.CLOSED
      ? "no longer served: `agent-preflight ui` was started again, so open the address that it printed"
      : "no connection: trying again"
  );
}

document.addEventListener("visibilitychange", look);
look();
