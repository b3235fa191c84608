"""`exec` creates names that Dynamo cannot know."""


def audited(x):
    exec("y = 1")  # finding: graph-break GB0059
    return x + 1
