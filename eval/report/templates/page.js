for (const box of document.querySelectorAll(".scroll")) {
  const hint = document.createElement("p");
  hint.className = "hint";
  hint.textContent = "More columns: scroll sideways →";
  hint.hidden = true;
  box.after(hint);
  new ResizeObserver(() => { hint.hidden = box.scrollWidth <= box.clientWidth + 1; }).observe(box);
}
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.querySelectorAll("thead th")];
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      // Scores begin with the highest, names with the first.
      const was = head.getAttribute("aria-sort");
      const up = was ? was === "descending" : column === 0;
      const key = row => row.cells[column].dataset.sort;
      const order = (a, b) => column ? key(a) - key(b) : key(a).localeCompare(key(b));
      const rows = [...table.tBodies[0].rows].sort((a, b) => up ? order(a, b) : order(b, a));
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      table.tBodies[0].append(...rows);
    });
  });
}
for (const part of document.querySelectorAll("[data-changes]")) {
  const bar = part.querySelector(".filters");
  if (!bar) continue;
  const buttons = [...bar.querySelectorAll("button")];
  const select = bar.querySelector("select");
  const cards = [...part.querySelectorAll(".card")];
  let kind = "";
  const show = () => {
    const model = select ? select.value : "";
    let left = 0;
    for (const card of cards) {
      const fits = card.dataset.tags.trim().split(" ").some(tag => {
        const [who, what] = tag.split(":");
        return (!model || who === model) && (kind ? what === kind : what !== "same");
      });
      card.hidden = !fits;
      left += fits;
    }
    bar.querySelector("[role=status]").textContent = left + (left === 1 ? " question" : " questions");
  };
  for (const button of buttons) {
    button.addEventListener("click", () => {
      kind = button.dataset.kind;
      buttons.forEach(other => other.setAttribute("aria-pressed", other === button));
      show();
    });
  }
  if (select) select.addEventListener("change", show);
  for (const picture of part.querySelectorAll(".picture")) {
    picture.addEventListener("click", () => picture.parentElement.classList.toggle("large"));
  }
}
