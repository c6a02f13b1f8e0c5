"use strict";
const figures = JSON.parse(document.getElementById("figures").textContent);
const config = {
  displaylogo: false,
  responsive: true,
  modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d"],
};
const plots = figures.map(({ name, plot }) => {
  const place = document.getElementById(`figure-${name}`);
  Plotly.newPlot(place, { data: plot.data, layout: plot.layout, frames: plot.frames ?? [], config });
  return place;
});
// Paper is narrower than the window, and printing does not wait for a resize.
window.addEventListener("beforeprint", () => plots.forEach((plot) => Plotly.relayout(plot, { width: 660 })));
window.addEventListener("afterprint", () => plots.forEach((plot) => Plotly.relayout(plot, { width: null, autosize: true })));
