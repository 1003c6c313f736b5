// What is drawn.
let mode = null; // null, or { kind: "not_class" | "one_of" | "set", picked: Set }
let isZoomed = false;

// --- what is drawn once per language ---
const drawWords = () => {
  document.documentElement.lang = lang;
  document.title = `${t("title")} · ${shown(data.dataset)}`;
  $("lang").value = lang;
  for (const part of document.querySelectorAll("[data-t]")) part.textContent = t(part.dataset.t);
  $("dataset").textContent = shown(data.dataset);
  for (let at = 0; at < tasks.length; at += 1) drawMark(at);
  draw();
};

// --- the strip of all pictures ---
const marks = {
  label: "✓", confirmed: "✓", corrected: "→", one_of: "⋯", not_class: "≠", none_of_these: "∅", unsure: "?", bad_image: "✕",
};
const cells = tasks.map((task, at) => {
  const button = node("button", { type: "button", tabindex: "-1" });
  button.append(node("img", { src: task.thumb, alt: "", decoding: "async" }), node("span", { "aria-hidden": "true" }));
  button.addEventListener("click", () => move(at));
  $("strip").append(node("li", {}, button));
  return button;
});
const drawMark = (at) => {
  const said = review.of(tasks[at]);
  cells[at].dataset.said = said ? said.decision : "";
  cells[at].lastChild.textContent = said ? marks[said.decision] : "";
  cells[at].setAttribute("aria-label", `${at + 1}: ${words(said)}`);
};
let current = null;
const drawStrip = () => {
  drawMark(review.at);
  if (current) {
    current.removeAttribute("aria-current");
    current.tabIndex = -1;
  }
  current = cells[review.at];
  current.setAttribute("aria-current", "true");
  current.tabIndex = 0;
  const strip = $("strip");
  strip.scrollLeft = current.parentNode.offsetLeft - (strip.clientWidth - current.offsetWidth) / 2;
};

// --- one picture, what is said of it, and the answers ---
const drawPicture = () => {
  const { task } = review;
  const alt = review.isBlind ? t("picture") : `${t("picture")}: ${shown(task.name)}`;
  $("broken").hidden = true;
  $("picture").hidden = false;
  $("picture").alt = alt;
  const source = pictures[review.at].textContent;
  if ($("picture").getAttribute("src") !== source) {
    zoom(false);
    $("picture").src = source;
  }
  const ahead = pictures[review.at + 1];
  if (ahead) {
    const next = new Image();
    next.src = ahead.textContent;
    next.decode().catch(() => {}); // the picture itself tells when it is shown
  }
  $("at").hidden = !task.at;
  if (task.at) $("at").src = task.at;
  $("at").alt = t("at");
  $("place").textContent = t("place", { n: review.at + 1, total: tasks.length });
  $("name").textContent = review.isBlind ? "" : shown(task.name);
  $("name").title = $("name").textContent;
};
// nothing is suggested: the readings differ, and only eyes can tell
const waits = (task) => task.suggested === null;
const sameSet = (task) => task.suggested.length === task.given.length && task.suggested.every((label) => task.given.includes(label));
// what is ticked of a picture that may have several labels: what was decided, else what was given
const startSet = () => {
  const said = review.of(review.task);
  const isSaid = said && ["label", "confirmed", "corrected"].includes(said.decision);
  return { kind: "set", picked: new Set(isSaid ? said.labels : review.isBlind ? [] : review.task.given) };
};
const isHidden = (action) => {
  const isModal = action === "finish" || action === "cancel";
  if (several) {
    if (action === "accept") return review.isBlind || sameSet(review.task);
    return ["cancel", "confirm", "not_class", "one_of"].includes(action);
  }
  const lacksLabel = (action === "confirm" && review.isBlind) || (action === "accept" && (review.isBlind || waits(review.task)));
  return mode ? !isModal || (action === "finish" && mode.kind !== "one_of") : isModal || lacksLabel;
};
const drawTold = () => {
  const { task } = review;
  const [told, evidence] = [$("told"), $("evidence")];
  const views = () => {
    if (!task.views) return;
    const pictures = task.views.map((at) => node("li", {}, node("img", { src: data.near[at].src, alt: t("views_alt") })));
    evidence.append(node("h2", { class: "minor" }, t("views")), node("ul", { class: "near" }, ...pictures));
  };
  if (review.isBlind) {
    told.replaceChildren(node("h2", { class: "tag" }, t("blind")), node("p", { class: "soft" }, t("blind_text")));
    evidence.replaceChildren();
    views();
    return;
  }
  const near = () => {
    if (!task.near.length) return;
    const shownNear = task.near.map((at) => {
      const { src, label } = data.near[at];
      const text = label || t("no_label");
      return node("li", {}, node("img", { src, alt: t("near_alt", { label: shown(text) }) }), called(text, { title: shown(text) }));
    });
    evidence.append(node("h2", { class: "minor" }, t("near")), node("ul", { class: "near" }, ...shownNear));
  };
  const fact = (word, ...value) => node("div", {}, node("dt", {}, t(word)), node("dd", {}, ...value));
  const likely = (word, share) => node("small", {}, t(word, { p: percent(share) }));
  if (several) {
    const sets = [fact("given", called(setWords(task.given)), " ", likely("score", task.score))];
    for (const word of ["missing", "spurious"]) {
      if (task[word].length) sets.push(fact(word, called(setWords(task[word]), { class: "possible" })));
    }
    if (!sameSet(task)) sets.push(fact("suggested", called(setWords(task.suggested), { class: "suggested" })));
    told.replaceChildren(node("dl", { class: "facts" }, ...sets));
    evidence.replaceChildren();
    near();
    return;
  }
  const facts = [
    fact("given", called(task.given), " ", likely("score", task.score)),
    waits(task)
      ? fact("possible", called(task.runner_up, { class: "possible" }), " ", node("small", {}, t("waits")))
      : fact("suggested", called(task.suggested, { class: "suggested" }), " ", likely("probability", task.probability)),
  ];
  const reasons = task.reasons.map((code) => node("li", {}, reason(code, task)));
  told.replaceChildren(node("dl", { class: "facts" }, ...facts));
  evidence.replaceChildren();
  views();
  if (reasons.length) evidence.append(node("h2", { class: "minor" }, t("why")), node("ul", { class: "reasons" }, ...reasons));
  near();
};
const fitting = () => {
  const wanted = $("filter").value.trim().toLocaleLowerCase();
  return classes.map((label, at) => [label, at]).filter(([label]) => label.toLocaleLowerCase().includes(wanted));
};
const drawClasses = () => {
  if (several && !mode) mode = startSet();
  const said = review.of(review.task);
  const chosen = mode ? mode.picked : new Set(said ? said.labels : []);
  const items = fitting().map(([label, at]) => {
    const key = at < 10 ? node("kbd", {}, String((at + 1) % 10)) : "";
    const button = node("button", { type: "button", "aria-pressed": String(chosen.has(label)) }, key, called(label));
    button.addEventListener("click", () => {
      pick(label);
      rest();
    });
    return node("li", {}, button);
  });
  $("classes").replaceChildren(...(items.length ? items : [node("li", { class: "soft" }, t("filter_none"))]));
  $("mode").hidden = !mode;
  $("mode").textContent = mode ? t(`mode_${mode.kind}`) : "";
  for (const button of $("actions").children) button.hidden = isHidden(button.dataset.do);
  $("said").replaceChildren(node("span", { class: "soft" }, `${t("your")} `), called(words(said)));
  $("said").classList.toggle("open", !said);
};
const draw = () => {
  const done = review.decisions.size;
  $("count").textContent = t("progress", { done, total: tasks.length });
  document.querySelector("progress").max = Math.max(tasks.length, 1);
  document.querySelector("progress").value = done;
  $("reviewer").textContent = shown(review.annotator);
  $("reviewer").setAttribute("aria-label", t("reviewer", { name: shown(review.annotator) }));
  $("reviewer").title = t("reviewer", { name: shown(review.annotator) });
  $("reviewer").hidden = !review.annotator;
  $("warning").hidden = review.keeps;
  $("warning").textContent = review.keeps ? "" : t("not_kept");
  if (!tasks.length) return;
  drawPicture();
  drawTold();
  drawClasses();
  drawStrip();
};
