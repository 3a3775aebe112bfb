// C interface for Python: sampling.
#include "pack.h"
#include "write.h"

#define EXPORTS(NAME, S)                                                                           \
    VISIBLE void charlm_pack_writer_##NAME(int64_t kind, int64_t H, int64_t K, const float *w,     \
                                           S *to) {                                                \
        pack_cell<S>(kind, H, K, w, to, 1);                                                        \
    }                                                                                              \
    VISIBLE void charlm_pack_writer_head_##NAME(int64_t columns, int64_t K, const float *w, S *to) { \
        pack_head<S>(columns, K, w, to);                                                           \
    }                                                                                              \
    VISIBLE void charlm_store_##NAME(const float *from, int64_t count, S *to) {                    \
        for (int64_t i = 0; i < count; i += WIDTH) store(to + i, load(from + i));                  \
    }                                                                                              \
    VISIBLE void charlm_read_##NAME(const Writer *w, const int64_t *symbols, int64_t count) {      \
        read_symbols<S>(*w, symbols, count);                                                       \
    }                                                                                              \
    VISIBLE void charlm_write_##NAME(const Writer *w, const double *uniforms, int64_t count,       \
                                     int64_t *symbols, double *nats) {                             \
        write_symbols<S>(*w, uniforms, count, symbols, nats);                                      \
    }
#define VISIBLE __attribute__((visibility("default")))

// Compiled in train.cpp.
#define ELSEWHERE(S)                                                                               \
    extern template void rnn_forward<S>(const LayerArgs &, int, int);                                 \
    extern template void lstm_forward<S>(const LayerArgs &, int, int);                                \
    extern template void gru_after_forward<S>(const LayerArgs &, int, int);                           \
    extern template void gru_before_forward<S>(const LayerArgs &, int, int);                          \
    extern template void linear_forward<S, MINGRU>(const LayerArgs &, int, int);                      \
    extern template void linear_forward<S, MINLSTM>(const LayerArgs &, int, int);                     \
    extern template void linear_forward<S, INDRNN>(const LayerArgs &, int, int);

ELSEWHERE(float)
#if HAS_BFLOAT16
ELSEWHERE(bfloat16)
#endif

extern "C" {

VISIBLE int64_t charlm_width() { return WIDTH; }
VISIBLE int64_t charlm_has_bfloat16() { return HAS_BFLOAT16; }
VISIBLE int64_t charlm_has_int8() { return HAS_QUANTIZED; }
VISIBLE int64_t charlm_kinds() { return sizeof CELL_KINDS / sizeof *CELL_KINDS; }
VISIBLE const char *charlm_kind_name(int64_t kind) { return CELL_KINDS[kind].name; }
VISIBLE int64_t charlm_saved_blocks(int64_t kind) { return CELL_KINDS[kind].saved_blocks; }
VISIBLE int64_t charlm_layer_args_size() { return sizeof(LayerArgs); }
VISIBLE int64_t charlm_writer_args_size() { return sizeof(Writer); }

// Reads `size` bytes, a multiple of 512, `times` over, with almost no computation.
VISIBLE int64_t charlm_read_bytes_float32(const float *bytes, int64_t size, int64_t times) {
    vec sums[8] = {};
    for (int64_t k = 0; k < times; k++)
        for (int64_t i = 0; i + 8 * WIDTH <= size / 4; i += 8 * WIDTH)
            UNROLL for (int n = 0; n < 8; n++) sums[n] += load(bytes + i + n * WIDTH);
    vec sum = sums[0] + sums[1] + sums[2] + sums[3] + sums[4] + sums[5] + sums[6] + sums[7];
    return sum[0] > 0;
}

EXPORTS(float32, float)
#if HAS_BFLOAT16
EXPORTS(bfloat16, bfloat16)
#endif
#if HAS_QUANTIZED
EXPORTS(int8, quantized)
#endif

}
