#!/usr/bin/env python3
"""Puts plan.md on the pull request: one comment, written anew each time.

GitHub: GITHUB_TOKEN, GITHUB_REPOSITORY, PULL_REQUEST, and GITHUB_API_URL if it is
not https://api.github.com. GitLab: GITLAB_TOKEN, and what its pipelines set of
themselves (CI_API_V4_URL, CI_PROJECT_ID, CI_MERGE_REQUEST_IID).
"""
import json
import os
import sys
import urllib.request

MARK = "<!-- duffy-broker plan -->"


def call(method, url, headers, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **headers}, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def pages(url, headers):
    page = 1
    while True:
        found = call("GET", f"{url}?per_page=100&page={page}", headers)
        yield from found
        if len(found) < 100:
            return
        page += 1


def main():
    with open(sys.argv[1] if len(sys.argv) > 1 else "plan.md", encoding="utf-8") as f:
        body = f.read()
    if not body.startswith(MARK):
        sys.exit("plan.md is no plan: its mark is missing")
    env = os.environ
    if "GITHUB_REPOSITORY" in env:
        api = env.get("GITHUB_API_URL", "https://api.github.com") + "/repos/" + env["GITHUB_REPOSITORY"] + "/issues"
        headers = {"Authorization": "Bearer " + env["GITHUB_TOKEN"], "Accept": "application/vnd.github+json"}
        comments = f"{api}/{env['PULL_REQUEST']}/comments"
        comment, update = api + "/comments/{}", "PATCH"
    else:
        headers = {"PRIVATE-TOKEN": env["GITLAB_TOKEN"]}
        comments = f"{env['CI_API_V4_URL']}/projects/{env['CI_PROJECT_ID']}/merge_requests/{env['CI_MERGE_REQUEST_IID']}/notes"
        comment, update = comments + "/{}", "PUT"
    for existing in pages(comments, headers):
        if existing["body"].startswith(MARK):
            call(update, comment.format(existing["id"]), headers, {"body": body})
            return
    call("POST", comments, headers, {"body": body})


main()
