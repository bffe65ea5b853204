"""Rules for every pod under deploy/, as a mixin of test cases."""

from deploy.tests import pods, schemas


class PodRules:
    def assert_objects_are_valid(self, documents):
        for version in schemas.VERSIONS:
            self.assertEqual([problem for document in documents for problem in schemas.problems(document, version)], [])

    def assert_container_is_restricted(self, spec, one):
        """The restricted Pod Security Standard, and a read-only root."""
        of_pod, own = spec.get("securityContext", {}), one.get("securityContext", {})
        effective = {**of_pod, **own}
        self.assertIs(effective.get("runAsNonRoot"), True, one["name"])
        self.assertGreater(effective.get("runAsUser"), 0, one["name"])
        self.assertEqual(effective.get("seccompProfile"), {"type": "RuntimeDefault"}, one["name"])
        self.assertIs(own.get("allowPrivilegeEscalation"), False, one["name"])
        self.assertIs(own.get("readOnlyRootFilesystem"), True, one["name"])
        self.assertEqual(own.get("capabilities"), {"drop": ["ALL"]}, one["name"])
        self.assertIn("memory", one.get("resources", {}).get("limits", {}), one["name"])

    def assert_pods_have_no_service_links(self, documents):
        for name, spec in pods.pod_specs(documents):
            self.assertIs(spec.get("enableServiceLinks"), False, name)

    def assert_services_lead_to_ports_of_pods(self, documents):
        for service in (document for document in documents if document["kind"] == "Service"):
            selector = service["spec"]["selector"].items()
            selected = [document for document in documents if selector <= labels_of_pods(document).items()]
            self.assertEqual(len(selected), 1, service["metadata"]["name"])
            spec = selected[0]["spec"]["template"]["spec"]
            ports = [port for one in pods.containers(spec) for port in one.get("ports", [])]
            known = {port["name"] for port in ports} | {port["containerPort"] for port in ports}
            for port in service["spec"]["ports"]:
                self.assertIn(port["targetPort"], known, service["metadata"]["name"])


def labels_of_pods(document):
    if document["kind"] not in ("Deployment", "DaemonSet"):
        return {}
    return document["spec"]["template"]["metadata"]["labels"]
