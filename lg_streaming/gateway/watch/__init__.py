"""The watch page: a list of executions and a page for each, served by the gateway.

- `pages`: the routes of the pages and their files
- `login`: the login of the pages
"""
