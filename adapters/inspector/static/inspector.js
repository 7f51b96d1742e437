// The inspector's keys, its live tail, the panel beside the list, copying. Every page reads without it.
const root = document.body.dataset.root;
const MOST_ROWS = 400;
const EVERY_MS = 1000;
const dialog = document.getElementById("keys");
const table = document.getElementById("records");
const ROWS = table ? "#records tbody > tr[data-href]" : "table[data-rows] tbody > tr[data-href]";
const panel = document.getElementById("panel");

const rows = () => [...document.querySelectorAll(ROWS)];
const current = () => document.activeElement?.closest?.("tr[data-href]");
const link = (row) => row?.querySelector("a[href]");
const selected = () => rows().find((each) => each.getAttribute("aria-selected") === "true");

function say(text) {
  document.getElementById("said").textContent = text;
}

// Rows: one is chosen by the focus of its link, so that Enter opens it and a screen reader says it.
function step(by) {
  const all = rows();
  const chosen = current() ?? selected();
  const at = all.indexOf(chosen);
  const next = all[at < 0 ? (by > 0 ? 0 : all.length - 1) : Math.min(Math.max(at + by, 0), all.length - 1)];
  link(next)?.focus();
  next?.scrollIntoView({ block: "nearest" });
}

let asked = 0;
async function show(row) {
  const where = link(row)?.dataset.panel;
  if (!panel || !where || matchMedia("(max-width: 900px)").matches) return;
  const mine = ++asked;
  const answer = await fetch(`${row.dataset.href}?part=panel`, { headers: { Accept: "text/html" } }).catch(() => null);
  const text = answer?.ok ? await answer.text().catch(() => null) : null;
  if (mine !== asked) return;
  if (text === null) panel.replaceChildren(note(`Record ${row.dataset.position} cannot be shown now: ${why(answer)}.`));
  else panel.innerHTML = text; // made by our own templates, which escape all that was stored
  panel.parentElement.classList.add("open");
  for (const each of rows()) each.toggleAttribute("aria-selected", false);
  row.setAttribute("aria-selected", "true");
  history.replaceState(history.state, "", where);
  dress(panel);
}
// What could not be read is told in its place, lest something else be taken for it.
const why = (answer) => (answer ? `the server answers ${answer.status}` : "the server does not answer");
function note(text) {
  const told = document.createElement("p");
  told.className = "note";
  told.setAttribute("role", "alert");
  told.textContent = text;
  return told;
}

const rowOf = (event) => event.target.closest?.(ROWS);
document.addEventListener("focusin", (event) => {
  const row = rowOf(event);
  if (!row) return;
  history.replaceState({ row: row.dataset.href }, "");
  show(row);
});
document.addEventListener("click", (event) => {
  const row = rowOf(event);
  if (!row || getSelection()?.toString()) return;
  if (event.shiftKey) {
    event.preventDefault();
    mark(row);
  } else if (!event.target.closest("a, button, summary, input")) {
    link(row)?.focus({ preventScroll: true });
  }
});
document.addEventListener("dblclick", (event) => {
  if (rowOf(event)) location.href = rowOf(event).dataset.href;
});

// Two marked rows: what changed between them.
let marked = null;
function mark(row) {
  if (!row?.dataset.position) return;
  if (marked && marked !== row) {
    const ends = [Number(marked.dataset.position), Number(row.dataset.position)].sort((a, b) => a - b);
    location.href = `${root}/diff?a=${ends[0]}&b=${ends[1]}`;
    return;
  }
  marked?.classList.remove("marked");
  marked = marked === row ? null : row;
  marked?.classList.add("marked");
  say(marked ? `marked ${row.dataset.position}; mark another one to see what changed between` : "no mark");
}

// The live tail: rows as the server sends them, while it is on and seen. Where the server has no place for one more who
// stays, what is newer is asked for every second.
const live = document.getElementById("live");
let source = null;
let waiting = [];
let newer = live?.dataset.newer;
let timer = 0;
let turn = 0; // an answer that was asked for before a pause is of a turn that is over, and is not taken
let hasMore = false;
const isOn = () => live.getAttribute("aria-pressed") === "true";
function listen() {
  const where = new URL(root + live.dataset.tail, location.href);
  where.searchParams.set("after", new URL(root + newer, location.href).searchParams.get("cursor").slice(1));
  source = new EventSource(where);
  source.onopen = () => { live.textContent = "live"; };
  source.onmessage = (event) => reached(event.lastEventId);
  source.addEventListener("record", (event) => {
    reached(event.lastEventId);
    waiting.push(event.data);
    timer ||= setTimeout(come, 100);
  });
  source.onerror = () => {
    live.textContent = "waiting";
    if (source?.readyState === EventSource.CLOSED) ask();
  };
}
function reached(position) {
  const there = new URL(root + newer, location.href);
  there.searchParams.set("cursor", `n${position}`);
  newer = there.pathname.slice(root.length) + there.search;
}
function come() {
  timer = 0;
  const rows = waiting.splice(0).slice(-MOST_ROWS).reverse();
  add(new DOMParser().parseFromString(`<table><tbody>${rows.join("")}</tbody></table>`, "text/html").querySelector("tbody"));
}
async function ask(mine = turn) {
  if (mine !== turn) return;
  if (!document.hidden) {
    try {
      const answer = await fetch(`${root}${newer}&part=rows`);
      const text = await answer.text();
      if (mine !== turn) return;
      if (answer.ok) take(text);
      const isOver = !answer.ok && answer.status < 500;
      live.textContent = answer.ok ? "live" : isOver ? "stopped" : "waiting";
      if (isOver) return toggle(false);
    } catch {
      if (mine !== turn) return;
      live.textContent = "waiting";
    }
  }
  if (isOn()) timer = setTimeout(ask, hasMore ? 0 : EVERY_MS, mine);
}
function take(text) {
  const body = new DOMParser().parseFromString(text, "text/html").querySelector("tbody");
  if (!body) return;
  newer = body.dataset.newer;
  hasMore = body.dataset.more === "yes";
  add(body);
}
function add(body) {
  const fresh = [...body.rows];
  if (!fresh.length) return;
  const list = table.tBodies[0];
  for (const row of fresh) row.classList.add("new");
  list.prepend(...fresh);
  document.querySelector(".list > .empty")?.remove();
  requestAnimationFrame(() => setTimeout(() => fresh.forEach((row) => row.classList.remove("new")), 200));
  const kept = current();
  while (list.rows.length > MOST_ROWS && list.rows[list.rows.length - 1] !== kept) list.deleteRow(-1);
  [...list.rows].forEach((row, at) => row.setAttribute("aria-rowindex", String(at + 1)));
}
function rest() {
  turn++;
  source?.close();
  source = null;
  clearTimeout(timer);
  timer = 0;
}
function toggle(on) {
  rest();
  if (waiting.length) come();
  live.setAttribute("aria-pressed", String(on));
  sessionStorage.setItem("actionbus-live", on ? "on" : "off");
  if (on && !document.hidden) listen();
}
if (live) {
  live.hidden = false;
  document.getElementById("again").hidden = true;
  live.addEventListener("click", () => toggle(!isOn()));
  document.addEventListener("visibilitychange", () => isOn() && toggle(true));
  addEventListener("pagehide", rest);
  addEventListener("pageshow", (event) => event.persisted && isOn() && toggle(true));
  toggle(sessionStorage.getItem("actionbus-live") !== "off");
}

// The strip: a click shows one bar's time, as its link does; a drag the time from bar to bar.
const strip = document.getElementById("strip");
let from = null;
function bar(event) {
  const all = strip.querySelectorAll("[data-since]");
  const first = all[0].getBoundingClientRect(), last = all[all.length - 1].getBoundingClientRect();
  const at = Math.floor(((event.clientX - first.left) / (last.right - first.left)) * all.length);
  return all[Math.min(Math.max(at, 0), all.length - 1)];
}
function brushed(to) {
  const all = [...strip.querySelectorAll("[data-since]")];
  const ends = [all.indexOf(from), all.indexOf(to)].sort((a, b) => a - b);
  all.forEach((each, at) => each.classList.toggle("brushed", at >= ends[0] && at <= ends[1]));
  return [all[ends[0]].dataset.since, all[ends[1]].dataset.until];
}
strip?.addEventListener("dragstart", (event) => event.preventDefault());
strip?.addEventListener("pointerdown", (event) => { from = bar(event); });
strip?.addEventListener("pointermove", (event) => { if (from && event.buttons) brushed(bar(event)); });
strip?.addEventListener("pointerup", (event) => {
  const to = bar(event);
  if (from && from !== to) showTime(to);
  from = null;
});
function showTime(to) {
  const [since, until] = brushed(to);
  const where = new URL(strip.dataset.others, location.href);
  where.searchParams.set("since", since);
  where.searchParams.set("until", until);
  location.href = where;
}

// By keyboard: arrows go from bar to bar, Shift makes a range of them, Enter shows that time.
let walked = null;
function walk(by, isRange) {
  const all = [...strip.querySelectorAll("[data-since]")];
  const at = all.indexOf(walked);
  walked = all[at < 0 ? (by < -1 ? 0 : all.length - 1) : Math.min(Math.max(at + by, 0), all.length - 1)];
  if (!isRange || !from) from = walked;
  const [since, until] = brushed(walked);
  say(`${since.slice(0, 19)} to ${until.slice(0, 19)}. ${walked.querySelector("title").textContent}`);
}
strip?.addEventListener("keydown", (event) => {
  const by = { ArrowLeft: -1, ArrowRight: 1, Home: -1e9, End: 1e9 }[event.key];
  if (by) {
    event.preventDefault();
    walk(by, event.shiftKey);
  } else if (event.key === "Enter" && walked) {
    showTime(walked);
  }
});
strip?.addEventListener("blur", () => { walked = from = null; });

// One menu at a time.
document.addEventListener("click", (event) => {
  for (const each of document.querySelectorAll("details.menu[open]")) if (!each.contains(event.target)) each.open = false;
});

// The slider of a table: its rows as they were, and what changed them, move with it.
const slide = document.getElementById("slide");
let slid = 0;
async function slideTo(position) {
  const mine = ++slid;
  const where = new URL(location.href);
  where.searchParams.set("at", position);
  where.searchParams.delete("cursor");
  const answer = await fetch(where).catch(() => null);
  const text = await answer?.text().catch(() => null);
  if (mine !== slid) return;
  document.querySelector("input[name=at]").value = position;
  if (!answer?.ok || !text) {
    return document.getElementById("state").replaceChildren(note(`Nothing is told of position ${position}: ${why(answer)}.`));
  }
  const then = new DOMParser().parseFromString(text, "text/html");
  for (const id of ["state", "steps"]) document.getElementById(id).replaceWith(then.getElementById(id));
  document.title = then.title;
  history.replaceState(null, "", where);
  say(`position ${position}`);
}
if (slide) {
  slide.classList.add("on"); // its place was kept, so that nothing jumps
  slide.addEventListener("input", () => slideTo(slide.value));
}

// A job that runs: how far it is, each second.
async function watchJob() {
  const shown = document.getElementById("job");
  if (shown?.dataset.state !== "running") return;
  const answer = await fetch(`${location.pathname}?part=job`).catch(() => null);
  if (answer?.ok) {
    shown.outerHTML = await answer.text(); // of our own templates
    if (document.getElementById("job").dataset.state !== "running") return location.reload();
  }
  setTimeout(watchJob, EVERY_MS);
}
watchJob();

// What only works with a script is shown only with one.
function dress(where) {
  for (const button of where.querySelectorAll("button.copy")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(button.dataset.copy);
        button.textContent = "copied";
      } catch {
        getSelection().selectAllChildren(button.parentElement.querySelector("code"));
        button.textContent = "selected";
      }
    });
  }
}
dress(document);

// A form leaves out what is empty, so that addresses stay short.
document.addEventListener("formdata", (event) => {
  for (const name of new Set(event.formData.keys())) {
    const kept = event.formData.getAll(name).filter((value) => value !== "");
    event.formData.delete(name);
    for (const value of kept) event.formData.append(name, value);
  }
});

const follow = (selector) => {
  const found = document.querySelector(selector);
  if (found) location.href = found.href;
};
const KEYS = {
  j: () => step(1),
  k: () => step(-1),
  x: () => mark(current() ?? selected()),
  p: () => live && toggle(live.getAttribute("aria-pressed") !== "true"),
  "[": () => follow("a[data-time=back]"),
  "]": () => follow("a[data-time=forward]"),
  "/": () => document.getElementById("go").focus(),
  "?": () => (dialog.open ? dialog.close() : dialog.showModal()),
};
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input:not([type=range]), textarea, select");
  if (event.key === "Escape") return escape(typing);
  if (event.ctrlKey || event.metaKey || event.altKey || typing) return;
  const act = KEYS[event.key];
  if (act && (!dialog.open || event.key === "?")) {
    event.preventDefault();
    act();
  }
});
function escape(typing) {
  if (dialog.open) return;
  const menu = document.querySelector("details.menu[open]");
  if (menu) {
    menu.open = false;
    return menu.querySelector("summary").focus();
  }
  if (typing) return typing.blur();
  asked++; // what is on its way would open it again
  if (panel?.parentElement.classList.contains("open")) {
    panel.parentElement.classList.remove("open");
    panel.textContent = "";
    const here = new URL(location.href);
    here.searchParams.delete("sel");
    history.replaceState(null, "", here);
    for (const each of rows()) each.removeAttribute("aria-selected");
    return;
  }
  follow("a[data-up]");
}

// Whoever comes back to a page goes on from the row on which he left it.
const isBack = performance.getEntriesByType("navigation")[0]?.type === "back_forward";
const left = isBack && history.state?.row;
if (left) link(rows().find((each) => each.dataset.href === left))?.focus({ preventScroll: true });
