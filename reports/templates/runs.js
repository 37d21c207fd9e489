"use strict";
const body = document.querySelector("tbody[data-rows]");
const rows = [...body.rows];
const filters = [...document.querySelectorAll("[data-filter]")];
const words = document.querySelector("[data-words]");
for (const select of filters) {
  const values = new Set(rows.map((row) => row.dataset[select.dataset.filter]));
  values.delete("");
  for (const value of [...values].sort()) select.append(new Option(value, value));
}
function show() {
  const wanted = words.value.toLowerCase().split(/\s+/);
  let shown = 0;
  for (const row of rows) {
    const text = row.textContent.toLowerCase();
    row.hidden =
      filters.some((each) => each.value && row.dataset[each.dataset.filter] !== each.value) ||
      wanted.some((word) => !text.includes(word));
    shown += !row.hidden;
  }
  document.querySelector("[data-count]").textContent =
    shown === rows.length ? "" : `${shown} of ${rows.length} shown`;
}
for (const each of [...filters, words]) each.addEventListener("input", show);
const heads = [...document.querySelectorAll("thead th[data-key]")];
function order(head, isDown) {
  for (const other of heads) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", isDown ? "descending" : "ascending");
  const key = head.dataset.key;
  const isNumber = head.classList.contains("number") || key === "grade";
  const value = (row) => (isNumber ? parseFloat(row.dataset[key]) : row.dataset[key]);
  rows.sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    if (isNumber && (isNaN(x) || isNaN(y))) return isNaN(x) - isNaN(y);
    const order = isNumber ? x - y : x < y ? -1 : x > y ? 1 : 0;
    return isDown ? -order : order;
  });
  body.append(...rows);
}
// Where a screen has no room for heads, a list of them stands for both directions.
const orders = document.querySelector("[data-sort]");
heads.forEach((head, k) => {
  head.firstChild.addEventListener("click", () =>
    order(head, head.getAttribute("aria-sort") !== "descending"));
  for (const sign of ["\u2193", "\u2191"])
    orders.append(new Option(`${head.firstChild.textContent} ${sign}`, `${k} ${sign}`));
});
const newest = heads.findIndex((head) => head.dataset.key === "trained");
orders.value = `${newest} \u2193`;
orders.addEventListener("input", () => {
  const [k, sign] = orders.value.split(" ");
  order(heads[k], sign === "\u2193");
});
document.querySelector(".filters").hidden = false;
