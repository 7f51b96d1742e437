// Shows the OpenAPI document beside, asking for a token first where one is needed. Kept in this page alone.
"use strict";
const page = document.getElementById("page");
const form = document.getElementById("who");
let token = "";

function signed(request) {
  if (token) request.headers.Authorization = "Bearer " + token;
  return request;
}

async function show() {
  const request = signed({ headers: {}, cache: "no-store" });
  const answer = await fetch(page.dataset.document, request);
  form.hidden = answer.ok;
  document.getElementById("refused").hidden = answer.ok || !token;
  if (answer.ok) {
    SwaggerUIBundle({
      spec: await answer.json(), domNode: page, docExpansion: "list", tryItOutEnabled: true, validatorUrl: null,
      requestInterceptor: signed,
    });
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  token = document.getElementById("token").value.trim();
  show();
});
show();
