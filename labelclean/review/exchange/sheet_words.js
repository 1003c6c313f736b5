// The data of the page, and its words.
const $ = (id) => document.getElementById(id);
const data = JSON.parse($("data").textContent);
const pictures = document.querySelectorAll("script.picture");
const review = new Review(data, () => localStorage, () => new Date());
const { classes, tasks } = data;
const several = data.several === true; // a picture may have several labels, or none
const LANG = "labelclean-sheet:lang";
let lang = navigator.language.startsWith("ja") ? "ja" : "en";

// --- words ---
// control characters and those that turn the writing direction are shown as a sign
const shown = (text) => text.replace(/[\p{Cc}\p{Cs}\u202a-\u202e\u2066-\u2069]/gu, "\ufffd");
const fill = (text, values) =>
  text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
const t = (key, values = {}) => fill(data.texts[lang][key] ?? key, values);
// as in the report: never rounded to none or all
const percent = (share) => {
  if (share > 0 && share < 0.001) return "<0.1%";
  if (share > 0.999 && share < 1) return ">99.9%";
  return `${(share * 100).toFixed((share > 0 && share < 0.0995) || (share >= 0.99 && share < 1) ? 1 : 0)}%`;
};
const node = (tag, attributes = {}, ...inside) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== null) made.setAttribute(name, value);
  made.append(...inside);
  return made;
};
const called = (text, attributes) => node("bdi", attributes, shown(text));
const setWords = (labels) => labels.map(shown).join(t("and")) || t("no_label");
const words = (said) => {
  if (!said) return t("undecided");
  return t(`said_${said.decision}`, { labels: several ? setWords(said.labels) : said.labels.map(shown).join(t("or")) });
};
const reason = (code, task) => {
  const key = code === "other_class" && task.given === task.suggested ? "reasons.other_class_kept" : `reasons.${code}`;
  const [given, predicted, possible] = [task.given, task.suggested ?? task.given, task.runner_up].map(shown);
  return key in data.texts[lang] ? t(key, { given, predicted, possible }) : shown(code);
};
let fading = 0;
const tell = (text, ms = 2500) => {
  const status = $("status");
  status.textContent = text;
  status.classList.add("fresh");
  clearTimeout(fading);
  fading = setTimeout(() => status.classList.remove("fresh"), ms);
};
