(() => {
  "use strict";
  // a table wider than the window can be scrolled by keyboard
  const reach = () => {
    for (const box of document.querySelectorAll(".scroll")) {
      if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
  };
  addEventListener("resize", reach);
  addEventListener("toggle", reach, true);
  reach();
  const form = document.querySelector("form.filter");
  if (!form) return;
  const cards = [...document.querySelectorAll("li.card")];
  const status = form.querySelector("output");
  const keys = ["given", "predicted", "mark", "source"];
  const apply = (num = 0) => {
    let shown = 0;
    for (const card of cards) {
      const fits = keys.every((key) => !form.elements[key].value || form.elements[key].value === card.dataset[key]);
      card.hidden = !fits;
      shown += fits;
    }
    const words = num
      ? status.dataset.pair.replace("{n}", shown).replace("{num}", num)
      : status.dataset.words.replace("{n}", shown).replace("{total}", status.dataset.total);
    status.textContent = shown ? words : status.dataset.none;
  };
  form.hidden = false;
  form.addEventListener("change", () => apply());
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(() => apply()));
  for (const link of document.querySelectorAll("a.pick")) {
    link.addEventListener("click", () => {
      form.elements.given.value = link.dataset.given;
      form.elements.predicted.value = link.dataset.predicted;
      form.elements.mark.value = "";
      form.elements.source.value = "";
      apply(Number(link.dataset.num));
      document.getElementById("suspects").focus({ preventScroll: true });
    });
  }
  apply();
})();
