"""Works, and offers a second mdaunet."""

from medtrans import Component, hookimpl

PLUGIN_API = "1.0"


@hookimpl
def medtrans_generators():
    return [Component("mdaunet", "plugin_network:Small"), Component("lazy", "not_there_either.networks:Net")]
