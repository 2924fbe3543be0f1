"use strict";
{
  const chart = JSON.parse(document.getElementById("chart-data").textContent);
  attnstoreCharts.draw(document.getElementById("chart"), chart.spec, chart.themes);
}
