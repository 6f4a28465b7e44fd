from __future__ import annotations

import ast
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


def test_prefect_yaml_names_flows_and_parameters_that_exist() -> None:
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    assert [deployment["name"] for deployment in deployments] == ["retrain", "caption"]
    for deployment in deployments:
        file, name = deployment["entrypoint"].split(":")
        tree = ast.parse((ROOT / file).read_text())
        (flow,) = (
            node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name
        )
        assert set(deployment["parameters"]) <= {argument.arg for argument in flow.args.args}
        assert name == deployment["name"]
    assert (ROOT / deployments[0]["parameters"]["config"]).is_file()
