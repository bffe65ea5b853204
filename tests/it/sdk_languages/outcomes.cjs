// Calls every operation of the published Node.js SDK with one admin key. Prints the status of each as a JSON object.

const { ApiKeysApi, Configuration } = require("@ory/client");

const keys = JSON.parse(process.env.KEYS);
const { issued, rotated, imported, deleted } = keys;
const api = new ApiKeysApi(
  new Configuration({ basePath: process.env.ENDPOINT, accessToken: process.env.ADMIN_KEY || undefined }),
);
const credential = keys.secret;
const newImport = (number) => ({ name: "n", actor_id: "a", raw_key: `${keys.raw_key}-${number}` });

const calls = {
  list_issued: () => api.adminListIssuedApiKeys(),
  get_issued: () => api.adminGetIssuedApiKey({ keyId: issued }),
  list_imported: () => api.adminListImportedApiKeys({ pageSize: 1 }),
  get_imported: () => api.adminGetImportedApiKey({ keyId: imported }),
  verify: () => api.adminVerifyApiKey({ verifyApiKeyRequest: { credential } }),
  batch_verify: () => api.adminBatchVerifyApiKeys({ batchVerifyApiKeysRequest: { requests: [{ credential }] } }),
  issue: () => api.adminIssueApiKey({ issueApiKeyRequest: { name: "n", actor_id: "a" } }),
  update_issued: () =>
    api.adminUpdateIssuedApiKey({
      keyId: issued,
      adminUpdateIssuedApiKeyRequest: { name: "new" },
      updateMask: "name",
    }),
  import: () => api.adminImportApiKey({ importApiKeyRequest: newImport(1) }),
  batch_import: () =>
    api.adminBatchCreateImportedApiKeys({ batchCreateImportedApiKeysRequest: { requests: [newImport(2)] } }),
  update_imported: () =>
    api.adminUpdateImportedApiKey({
      keyId: imported,
      adminUpdateImportedApiKeyRequest: { name: "new" },
      updateMask: "name",
    }),
  derive: () => api.adminDeriveToken({ deriveTokenRequest: { credential } }),
  rotate: () => api.adminRotateIssuedApiKey({ keyId: rotated, adminRotateIssuedApiKeyBody: {} }),
  revoke_issued: () => api.adminRevokeIssuedApiKey({ keyId: issued, adminRevokeIssuedApiKeyBody: {} }),
  revoke_imported: () => api.adminRevokeImportedApiKey({ keyId: imported, adminRevokeImportedApiKeyBody: {} }),
  delete_imported: () => api.adminDeleteImportedApiKey({ keyId: deleted }),
  jwks: () => api.getJwks(),
  self_revoke: () => api.revokeApiKey({ selfRevokeApiKeyRequest: { credential: keys.own_secret } }),
};

async function main() {
  const outcomes = {};
  for (const [name, call] of Object.entries(calls)) {
    try {
      outcomes[name] = (await call()).status;
    } catch (error) {
      if (!error.response) throw error;
      outcomes[name] = error.response.status;
    }
  }
  console.log(JSON.stringify(outcomes));
}

main();
