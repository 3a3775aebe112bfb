// C interface for Python: adapting a model to a text.
#include "adapt.h"

#define VISIBLE __attribute__((visibility("default")))

// Compiled in train.cpp.
extern template void rnn_forward<float>(const LayerArgs &, int, int);
extern template void lstm_forward<float>(const LayerArgs &, int, int);
extern template void gru_after_forward<float>(const LayerArgs &, int, int);
extern template void gru_before_forward<float>(const LayerArgs &, int, int);

extern "C" {

VISIBLE int64_t charlm_adapter_args_size() { return sizeof(Adapter); }
VISIBLE int64_t charlm_adapting_layer_args_size() { return sizeof(AdaptingLayer); }

VISIBLE void charlm_pack_adapter_float32(const Adapter *a) { pack_all(*a); }

VISIBLE void charlm_adapt_float32(Adapter *a, const int64_t *symbols, const int64_t *targets, int64_t T,
                                  float *losses, float *logits) {
    adapt(*a, symbols, targets, T, losses, logits);
}

}
