// A lens needs labels: the browser says so before pictures are sent. Embeddings need none.
(() => {
  const form = document.querySelector(".new-job");
  const labels = form.elements.namedItem("labels");
  const look = () => { labels.required = form.elements.namedItem("type").value === "logit_lens"; };
  form.addEventListener("change", look);
  look();
})();
