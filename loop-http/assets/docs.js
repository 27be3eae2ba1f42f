// The document is beside the page, wherever both are mounted. No validator is asked whether it is right: it would be told of the document.
SwaggerUIBundle({ url: "openapi.json", dom_id: "#docs", deepLinking: true, docExpansion: "list", validatorUrl: null });
