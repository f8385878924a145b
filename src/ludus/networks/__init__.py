"""Networks: layers, torsos, heads, and the policies made of them."""
