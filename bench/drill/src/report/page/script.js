"use strict";
// Values under the pointer. The page is whole without this.
for (const plot of document.querySelectorAll(".plot[data-hover]")) {
  const data = JSON.parse(plot.dataset.hover);
  const bins = data.series.length ? data.series[0].values.length : 0;
  const tip = document.createElement("div");
  tip.className = "tip";
  plot.append(tip);
  const clock = (s) => {
    const pad = (n) => String(n).padStart(2, "0");
    const h = Math.floor(s / 3600), m = Math.floor(s / 60) % 60, r = Math.floor(s % 60);
    return h ? `${h}:${pad(m)}:${pad(r)}` : `${m}:${pad(r)}`;
  };
  const hide = () => {
    tip.style.display = "none";
    for (const line of plot.querySelectorAll(".cursor")) line.setAttribute("d", "");
  };
  plot.addEventListener("pointerleave", hide);
  plot.addEventListener("pointermove", (event) => {
    const svg = [...plot.querySelectorAll("svg")].find((one) => one.getBoundingClientRect().width > 0);
    if (!svg || !bins) return;
    const box = svg.getBoundingClientRect(), view = svg.viewBox.baseVal;
    const x = ((event.clientX - box.left) / box.width) * view.width;
    const left = 46, right = view.width - 10;
    const bin = Math.floor(((x - left) / (right - left)) * bins);
    if (bin < 0 || bin >= bins) return hide();
    const at = left + ((bin + 0.5) / bins) * (right - left);
    svg.querySelector(".cursor").setAttribute("d", `M${at} ${view.height - 24}V18`);
    tip.replaceChildren(`${clock(bin * data.step)} (${data.unit})`);
    for (const one of data.series) {
      const row = document.createElement("div"), mark = document.createElement("i");
      mark.className = one.class;
      row.append(mark, `${one.name}: ${one.values[bin]}`);
      tip.append(row);
    }
    tip.style.display = "block";
    const room = box.width - tip.offsetWidth - 8, wish = (at / view.width) * box.width + 12;
    tip.style.left = `${Math.max(0, wish > room ? wish - tip.offsetWidth - 24 : wish)}px`;
  });
}
document.getElementById("save")?.addEventListener("click", (event) => {
  const text = document.getElementById("figures").textContent;
  event.target.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
});
