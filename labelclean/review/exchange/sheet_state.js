"use strict";
// What was decided, kept in this browser under the run and the export. No document here.
class Review {
  constructor(data, storage, now) {
    this.data = data;
    this.storage = storage;
    this.now = now;
    this.place = `labelclean-sheet:${data.run_id}:${data.export}`;
    this.keeps = true;
    this.clear();
    this.load();
  }
  clear() {
    this.annotator = "";
    this.at = 0;
    this.decisions = new Map(); // task key -> decision
    this.history = []; // [task key, what was decided before or null]
  }
  load() {
    try {
      const kept = JSON.parse(this.storage().getItem(this.place) || "null");
      if (!kept) return;
      const known = new Set(this.data.tasks.map((task) => task.key));
      this.annotator = String(kept.annotator || "");
      this.decisions = new Map(kept.decisions.filter(([key]) => known.has(key)));
      this.history = kept.history.filter(([key]) => known.has(key));
      this.at = Math.min(Math.max(Number(kept.at) || 0, 0), Math.max(this.data.tasks.length - 1, 0));
    } catch {
      this.keeps = false;
    }
  }
  save() {
    const { annotator, at, history } = this;
    try {
      this.storage().setItem(this.place, JSON.stringify({ annotator, at, history, decisions: [...this.decisions] }));
      this.keeps = true;
    } catch {
      this.keeps = false;
    }
  }
  get task() {
    return this.data.tasks[this.at];
  }
  get isBlind() {
    return this.task.given === undefined;
  }
  of(task) {
    return this.decisions.get(task.key) || null;
  }
  go(at) {
    if (at < 0 || at >= this.data.tasks.length) return false;
    this.at = at;
    this.save();
    return true;
  }
  /** The next place without a decision, from here on and then from the start; -1 if there is none. */
  open() {
    const { tasks } = this.data;
    for (let step = 1; step <= tasks.length; step += 1) {
      const at = (this.at + step) % tasks.length;
      if (!this.decisions.has(tasks[at].key)) return at;
    }
    return -1;
  }
  choose(label) {
    const word = this.isBlind ? "label" : label === this.task.given ? "confirmed" : "corrected";
    this.decide(word, [label]);
  }
  /** All labels of a picture that may have several, in class order; none of them too. */
  chooseSet(labels) {
    const { given } = this.task;
    const isGiven = !this.isBlind && given.length === labels.length && given.every((label) => labels.includes(label));
    this.decide(this.isBlind ? "label" : isGiven ? "confirmed" : "corrected", labels);
  }
  decide(decision, labels = []) {
    const { key } = this.task;
    this.history = [...this.history, [key, this.decisions.get(key) || null]].slice(-500);
    const annotator = this.annotator;
    this.decisions.set(key, { decision, labels, annotator, reviewed_at: this.now().toISOString() });
    this.save();
  }
  undo() {
    const last = this.history.pop();
    if (!last) return false;
    const [key, before] = last;
    if (before) this.decisions.set(key, before);
    else this.decisions.delete(key);
    this.at = this.data.tasks.findIndex((task) => task.key === key);
    this.save();
    return true;
  }
  file() {
    const { format, tool, run_id, dataset, tasks } = this.data;
    const decisions = tasks.flatMap((task) => {
      const said = this.of(task);
      return said ? [{ key: task.key, content_hash: task.hash, ...said }] : [];
    });
    const head = { format, tool, run_id, dataset, export: this.data.export, num_decisions: decisions.length };
    return JSON.stringify({ ...head, decisions }, null, 1) + "\n";
  }
  fileName() {
    const plain = (text) => text.replace(/[^\p{L}\p{N}.-]+/gu, "-").replace(/^[-.]+|[-.]+$/g, "").slice(0, 60);
    return ["decisions", plain(this.data.run_id), plain(this.annotator)].filter(Boolean).join("-") + ".json";
  }
}
