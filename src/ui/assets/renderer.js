// Shows the document that the page hands over. This frame cannot ask for anything itself.

addEventListener("message", (event) => {
  if (event.origin !== location.origin || event.source !== parent || !event.data?.spec) return;
  window.SwaggerUIBundle({
    spec: event.data.spec,
    dom_id: "#document",
    supportedSubmitMethods: [],
    docExpansion: "list",
    defaultModelsExpandDepth: 0,
    validatorUrl: null,
  });
});
