// What can be done, by keyboard and mouse.
const rest = () => $("look").focus({ preventScroll: true });
const zoom = (wanted, x = 0.5, y = 0.5) => {
  isZoomed = wanted;
  const frame = $("frame");
  frame.classList.toggle("zoomed", wanted);
  if (wanted) frame.tabIndex = 0;
  else frame.removeAttribute("tabindex");
  document.querySelector("[data-do=zoom]").setAttribute("aria-pressed", String(wanted));
  if (wanted) frame.scrollTo((frame.scrollWidth - frame.clientWidth) * x, (frame.scrollHeight - frame.clientHeight) * y);
};
const leaveMode = () => {
  mode = null;
  $("filter").value = "";
};
const move = (at) => {
  leaveMode();
  if (review.go(at)) draw();
};
const decided = () => {
  const text = words(review.of(review.task));
  leaveMode();
  drawMark(review.at);
  const open = review.open();
  if (open >= 0) review.go(open);
  draw();
  tell(open >= 0 ? `${text} · ${t("place", { n: review.at + 1, total: tasks.length })}` : text);
  if (open < 0) {
    $("done-title").textContent = t("all_done", { total: tasks.length });
    $("done").showModal();
  }
};
const pick = (label) => {
  if (!mode) {
    review.choose(label);
    decided();
  } else if (mode.kind !== "not_class") {
    if (!mode.picked.delete(label)) mode.picked.add(label);
    $("filter").value = "";
    drawClasses();
  } else {
    const out = [...new Set([...mode.picked, label])];
    if (out.length >= classes.length) return tell(t("too_many"));
    review.decide("not_class", out);
    decided();
  }
  return undefined;
};
const enter = (kind) => {
  if (kind === "one_of" && classes.length < 3) return tell(t("two_classes"));
  const said = review.of(review.task);
  mode = { kind, picked: new Set(said && said.decision === kind ? said.labels : []) };
  return drawClasses();
};
const chooseSet = (labels) => {
  review.chooseSet(labels);
  decided();
};
const download = () => {
  if (!review.decisions.size) return tell(t("nothing"));
  const url = URL.createObjectURL(new Blob([review.file()], { type: "application/json" }));
  node("a", { href: url, download: review.fileName() }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
  if ($("done").open) $("done").close();
  return tell(t("downloaded", { n: review.decisions.size, file: review.fileName() }), 8000);
};
const actions = {
  confirm: () => (review.isBlind ? tell(t("no_given")) : pick(review.task.given)),
  accept: () => {
    if (review.isBlind) return tell(t("no_given"));
    if (several) return chooseSet(review.task.suggested);
    return waits(review.task) ? tell(t("no_suggestion")) : pick(review.task.suggested);
  },
  unsure: () => (review.decide("unsure"), decided()),
  none: () => chooseSet([]),
  bad_image: () => (review.decide("bad_image"), decided()),
  none_of_these: () => several || (review.decide("none_of_these"), decided()),
  not_class: () => (several ? chooseSet([]) : enter("not_class")),
  one_of: () => several || enter("one_of"),
  finish: () => {
    if (several) return chooseSet(classes.filter((label) => mode.picked.has(label)));
    if (mode.picked.size < 2 || mode.picked.size >= classes.length) return tell(t("too_few"));
    review.decide("one_of", classes.filter((label) => mode.picked.has(label)));
    return decided();
  },
  cancel: () => (leaveMode(), drawClasses()),
  undo: () => {
    leaveMode();
    const isUndone = review.undo();
    draw();
    tell(t(isUndone ? "undone" : "nothing_undo"));
  },
  previous: () => move(review.at - 1),
  next: () => move(review.at + 1),
  zoom: () => zoom(!isZoomed),
  help: () => $("help").showModal(),
  close: () => document.querySelector("dialog[open]").close(),
  download,
};
const KEYS = {
  Enter: "confirm", " ": "confirm", s: "accept", u: "unsure", x: "bad_image", k: "none_of_these", n: "not_class", o: "one_of", z: "undo",
  ArrowLeft: "previous", ArrowRight: "next", m: "zoom", d: "download", "?": "help", Escape: "cancel",
};
const PAN = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const pan = ([x, y]) => $("frame").scrollBy(($("frame").clientWidth * x) / 3, ($("frame").clientHeight * y) / 3);
const digit = (key) => {
  const label = classes[(Number(key) + 9) % 10];
  if (label === undefined) tell(t("no_such", { n: key }));
  else pick(label);
};
const inMode = (key) => (key === "Enter" || key === " " ? mode.kind !== "not_class" && actions.finish() : key === "Escape" && actions.cancel());

// --- the keyboard and the mouse ---
const pressed = (event) => {
  const { key, target } = event;
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || !tasks.length) return;
  const dialog = document.querySelector("dialog[open]");
  if (dialog && !(dialog.id === "done" && key === "d")) return;
  if (target.matches("input, select") || (target.matches("button") && (key === "Enter" || key === " "))) return;
  const lower = key.length === 1 ? key.toLowerCase() : key;
  if (event.repeat && !key.startsWith("Arrow")) return event.preventDefault(); // a key held down decides once
  if (isZoomed && key in PAN) pan(PAN[key]);
  else if (/^[0-9]$/.test(key)) digit(key);
  else if (key === "/" && !$("find").hidden) $("filter").focus();
  else if (mode && (key === "Enter" || key === " " || (key === "Escape" && !(several && isZoomed)))) inMode(key);
  else if (key === "Escape") zoom(false);
  else if (lower in KEYS) actions[KEYS[lower]]();
  else return;
  event.preventDefault();
  if (target.closest("#strip")) cells[review.at].focus({ preventScroll: true });
};
const filtered = (event) => {
  if (event.isComposing || (event.key !== "Enter" && event.key !== "Escape")) return;
  event.preventDefault();
  event.stopPropagation();
  const [first] = fitting();
  const isTaken = event.key === "Enter" && $("filter").value.trim() && first;
  $("filter").value = "";
  if (isTaken) pick(first[0]);
  else drawClasses();
  rest();
};
addEventListener("keydown", pressed);
$("filter").addEventListener("keydown", filtered);
$("filter").addEventListener("input", drawClasses);
for (const button of document.querySelectorAll("[data-do]")) {
  button.addEventListener("click", () => {
    const isInDialog = button.closest("dialog") || button.dataset.do === "help";
    actions[button.dataset.do]();
    if (!isInDialog && !document.querySelector("dialog[open]")) rest();
  });
}
$("picture").addEventListener("error", () => {
  $("picture").hidden = true;
  $("broken").hidden = false;
});
$("picture").addEventListener("click", (event) => {
  const box = $("picture").getBoundingClientRect();
  zoom(!isZoomed, (event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
});
$("lang").addEventListener("change", () => {
  lang = $("lang").value;
  try {
    localStorage.setItem(LANG, lang);
  } catch {
    review.keeps = false;
  }
  drawWords();
});
const ask = () => {
  $("annotator").value = review.annotator;
  $("who").showModal();
};
$("reviewer").addEventListener("click", ask);
$("who").addEventListener("cancel", (event) => review.annotator || event.preventDefault());
$("who").addEventListener("close", () => (review.annotator ? rest() : ask()));
for (const id of ["help", "done"]) $(id).addEventListener("close", rest);
$("who").firstElementChild.addEventListener("submit", (event) => {
  event.preventDefault();
  const given = $("annotator").value.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, "").replace(/\p{Zs}+/gu, " ").trim();
  if (!given) return;
  review.annotator = given;
  review.save();
  $("who").close();
  draw();
});
addEventListener("storage", (event) => {
  if (event.key !== review.place) return;
  const { at } = review;
  const said = () => JSON.stringify([review.annotator, ...review.decisions]);
  const before = said();
  review.clear();
  review.load();
  review.at = at;
  if (said() === before) return;
  leaveMode();
  drawWords();
  tell(t("other_tab"));
});
addEventListener("beforeunload", (event) => {
  if (!review.keeps && review.decisions.size) event.preventDefault();
});

try {
  lang = localStorage.getItem(LANG) || lang;
} catch {
  review.keeps = false;
}
if (!(lang in data.texts)) lang = "en";
$("find").hidden = classes.length <= 10;
drawWords();
if (!review.annotator) ask();
else rest();
