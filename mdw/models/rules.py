"""The rules of kernel initialisation in words; `mdw.models.init` applies them. Without torch, so that recipes can name them."""

RULES = {
    "mixed": "N(0, 0.001) for convolution modules, while kernel banks keep the start of their own class",
    "published": "N(0, 0.001) for every kernel, static or in a bank, where no released code of the network says otherwise",
    "scaled": "variance 1 / fan-in for every kernel, static or in a bank, but for the heatmap layer's, N(0, 0.001)",
}
