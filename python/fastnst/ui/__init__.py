"""The page in the browser: ``fastnst ui``, and ``--preview`` of a running job (extra ``ui``).

Pictures that visitors upload stay in their session: results are never files that the server offers,
they are sent inside the page, as data.
"""
