"""Calls every operation of the published Python SDK with one admin key. Prints the status of each as a JSON object."""

import json
import os

import ory_client
from ory_client.api.api_keys_api import ApiKeysApi
from ory_client.models.admin_revoke_imported_api_key_body import AdminRevokeImportedApiKeyBody
from ory_client.models.admin_revoke_issued_api_key_body import AdminRevokeIssuedApiKeyBody
from ory_client.models.admin_rotate_issued_api_key_body import AdminRotateIssuedApiKeyBody
from ory_client.models.admin_update_imported_api_key_request import AdminUpdateImportedApiKeyRequest
from ory_client.models.admin_update_issued_api_key_request import AdminUpdateIssuedApiKeyRequest
from ory_client.models.batch_create_imported_api_keys_request import BatchCreateImportedApiKeysRequest
from ory_client.models.batch_verify_api_keys_request import BatchVerifyApiKeysRequest
from ory_client.models.derive_token_request import DeriveTokenRequest
from ory_client.models.import_api_key_request import ImportApiKeyRequest
from ory_client.models.issue_api_key_request import IssueApiKeyRequest
from ory_client.models.self_revoke_api_key_request import SelfRevokeApiKeyRequest
from ory_client.models.verify_api_key_request import VerifyApiKeyRequest

keys = json.loads(os.environ["KEYS"])
issued, rotated, imported, deleted = keys["issued"], keys["rotated"], keys["imported"], keys["deleted"]
api = ApiKeysApi(
    ory_client.ApiClient(
        ory_client.Configuration(host=os.environ["ENDPOINT"], access_token=os.environ.get("ADMIN_KEY"))
    )
)
verify = VerifyApiKeyRequest(credential=keys["secret"])


def new_import(number):
    return ImportApiKeyRequest(name="n", actor_id="a", raw_key=f"{keys['raw_key']}-{number}")


CALLS = {
    "list_issued": lambda: api.admin_list_issued_api_keys_with_http_info(),
    "get_issued": lambda: api.admin_get_issued_api_key_with_http_info(issued),
    "list_imported": lambda: api.admin_list_imported_api_keys_with_http_info(page_size=1),
    "get_imported": lambda: api.admin_get_imported_api_key_with_http_info(imported),
    "verify": lambda: api.admin_verify_api_key_with_http_info(verify),
    "batch_verify": lambda: api.admin_batch_verify_api_keys_with_http_info(
        BatchVerifyApiKeysRequest(requests=[verify])
    ),
    "issue": lambda: api.admin_issue_api_key_with_http_info(IssueApiKeyRequest(name="n", actor_id="a")),
    "update_issued": lambda: api.admin_update_issued_api_key_with_http_info(
        issued, AdminUpdateIssuedApiKeyRequest(name="new"), "name"
    ),
    "import": lambda: api.admin_import_api_key_with_http_info(new_import(1)),
    "batch_import": lambda: api.admin_batch_create_imported_api_keys_with_http_info(
        BatchCreateImportedApiKeysRequest(requests=[new_import(2)])
    ),
    "update_imported": lambda: api.admin_update_imported_api_key_with_http_info(
        imported, AdminUpdateImportedApiKeyRequest(name="new"), "name"
    ),
    "derive": lambda: api.admin_derive_token_with_http_info(DeriveTokenRequest(credential=keys["secret"])),
    "rotate": lambda: api.admin_rotate_issued_api_key_with_http_info(rotated, AdminRotateIssuedApiKeyBody()),
    "revoke_issued": lambda: api.admin_revoke_issued_api_key_with_http_info(issued, AdminRevokeIssuedApiKeyBody()),
    "revoke_imported": lambda: api.admin_revoke_imported_api_key_with_http_info(
        imported, AdminRevokeImportedApiKeyBody()
    ),
    "delete_imported": lambda: api.admin_delete_imported_api_key_with_http_info(deleted),
    "jwks": lambda: api.get_jwks_with_http_info(),
    "self_revoke": lambda: api.revoke_api_key_with_http_info(
        SelfRevokeApiKeyRequest(credential=keys["own_secret"])
    ),
}


def status(call):
    try:
        return call().status_code
    except ory_client.ApiException as error:
        return error.status


print(json.dumps({name: status(call) for name, call in CALLS.items()}))
