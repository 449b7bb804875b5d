"""What people look at: figures by Vega-Lite, and the report that holds them."""
