"""How public datasets lie on disk: one module for each."""

from cardiojax.data.datasets.layouts import acdc, camus, echonet, hmcqu, ted
from cardiojax.data.datasets.layouts.folder import folder_layout as folder_layout
from cardiojax.data.datasets.schema import Layout

#: The public datasets, by name. A folder is searched for them in this order.
LAYOUTS: dict[str, Layout] = {
    layout.name: layout for module in (ted, camus, echonet, hmcqu, acdc) for layout in module.LAYOUTS
}
