"use strict";
// Surfaces are turned by dragging; these buttons do it without a mouse.
const STEP = Math.PI / 12;
const turned = (place, across, up) => {
  const { x, y, z } = place._fullLayout.scene.camera.eye;
  const far = Math.hypot(x, y, z);
  const angle = Math.atan2(y, x) + across;
  const height = Math.min(Math.max(Math.asin(z / far) + up, -1.4), 1.4);
  return { x: far * Math.cos(height) * Math.cos(angle), y: far * Math.cos(height) * Math.sin(angle), z: far * Math.sin(height) };
};
document.querySelectorAll(".turning").forEach((bar) => {
  const place = document.getElementById(bar.dataset.figure);
  const first = JSON.parse(bar.dataset.eye);
  bar.querySelectorAll("button").forEach((button) => {
    button.addEventListener("click", () => {
      const [across, up] = [button.dataset.across, button.dataset.up].map(Number);
      const eye = across || up ? turned(place, across * STEP, up * STEP) : first;
      Plotly.relayout(place, { "scene.camera.eye": eye });
    });
  });
});
