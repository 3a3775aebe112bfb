// Recurrent layers by oneDNN's own primitives, forward and backward, as `other_engines.py train` calls
// them: CELL (lstm, gru after, gru before), TYPE (float32, bfloat16), H, L, rounds. 64 lanes of 64
// symbols. Prints characters a second (the median of rounds), or, on stderr, why there are none.
// For the interface of oneDNN 2, as Debian 12 has it.
#include <dnnl.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <unordered_map>
#include <vector>

using namespace dnnl;
using dt = memory::data_type;
using tag = memory::format_tag;
using Arguments = std::unordered_map<int, memory>;

const memory::dim T = 64, B = 64;

struct Layers {
    engine cpu{engine::kind::cpu, 0};
    stream queue{cpu};
    std::vector<memory> kept;
    dt kind;
    memory::dim H, L;

    memory make(const memory::desc &desc) {
        memory m(desc, cpu);
        if (desc.get_size()) {
            char *bytes = (char *)m.get_data_handle();
            std::fill(bytes, bytes + desc.get_size(), 0);
        }
        kept.push_back(m);
        return m;
    }
    memory::desc sequence() { return {{T, B, H}, kind, tag::tnc}; }
    memory::desc state(dt type) { return {{L, 1, B, H}, type, tag::ldnc}; }
    memory::desc weights(memory::dim gates, dt type) { return {{L, 1, H, gates, H}, type, tag::any}; }
    memory::desc bias(memory::dim blocks) { return {{L, 1, blocks, H}, dt::f32, tag::ldgo}; }

    // The gradients of the forward arguments, then the arguments themselves: what backward takes.
    template <class Forward, class Backward> double run(Forward forward_pd, Backward backward_pd, int rounds) {
        Arguments forward, backward;
        auto both = [&](int argument, memory::desc there, memory::desc back, memory::desc gradient) {
            memory m = make(there);
            forward[argument] = m;
            backward[argument] = back == there ? m : make(back);
            backward[DNNL_ARG_DIFF_SRC_LAYER - DNNL_ARG_SRC_LAYER + argument] = make(gradient);
        };
        auto f = forward_pd; auto b = backward_pd;
        both(DNNL_ARG_SRC_LAYER, f.src_layer_desc(), b.src_layer_desc(), b.diff_src_layer_desc());
        both(DNNL_ARG_SRC_ITER, f.src_iter_desc(), b.src_iter_desc(), b.diff_src_iter_desc());
        both(DNNL_ARG_WEIGHTS_LAYER, f.weights_layer_desc(), b.weights_layer_desc(), b.diff_weights_layer_desc());
        both(DNNL_ARG_WEIGHTS_ITER, f.weights_iter_desc(), b.weights_iter_desc(), b.diff_weights_iter_desc());
        both(DNNL_ARG_BIAS, f.bias_desc(), b.bias_desc(), b.diff_bias_desc());
        both(DNNL_ARG_DST_LAYER, f.dst_layer_desc(), b.dst_layer_desc(), b.diff_dst_layer_desc());
        both(DNNL_ARG_DST_ITER, f.dst_iter_desc(), b.dst_iter_desc(), b.diff_dst_iter_desc());
        if constexpr (std::is_same_v<Forward, lstm_forward::primitive_desc>) {
            both(DNNL_ARG_SRC_ITER_C, f.src_iter_c_desc(), b.src_iter_c_desc(), b.diff_src_iter_c_desc());
            both(DNNL_ARG_DST_ITER_C, f.dst_iter_c_desc(), b.dst_iter_c_desc(), b.diff_dst_iter_c_desc());
        }
        forward[DNNL_ARG_WORKSPACE] = backward[DNNL_ARG_WORKSPACE] = make(f.workspace_desc());
        primitive ahead(f), back(b);
        // The backward pass reads the weights in a layout of its own: a training step reorders them.
        std::vector<std::pair<reorder, Arguments>> reorders;
        for (int argument : {DNNL_ARG_WEIGHTS_LAYER, DNNL_ARG_WEIGHTS_ITER})
            if (forward[argument].get_desc() != backward[argument].get_desc())
                reorders.push_back({reorder(forward[argument], backward[argument]),
                                    {{DNNL_ARG_FROM, forward[argument]}, {DNNL_ARG_TO, backward[argument]}}});
        std::vector<double> seconds;
        for (int round = 0; round < 3 + 3 * rounds; round++) {
            auto began = std::chrono::steady_clock::now();
            ahead.execute(queue, forward);
            for (auto &[primitive, arguments] : reorders) primitive.execute(queue, arguments);
            back.execute(queue, backward);
            queue.wait();
            std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
            if (round >= 3) seconds.push_back(took.count());
        }
        std::nth_element(seconds.begin(), seconds.begin() + seconds.size() / 2, seconds.end());
        return T * B / seconds[seconds.size() / 2];
    }

    double lstm(int rounds) {
        auto way = rnn_direction::unidirectional_left2right;
        auto h = state(kind), c = state(dt::f32), w = weights(4, kind);
        lstm_forward::desc forward(prop_kind::forward_training, way, sequence(), h, c, w, w, bias(4), sequence(), h, c);
        lstm_forward::primitive_desc pd(forward, cpu);
        auto d = memory::desc({T, B, H}, dt::f32, tag::tnc), dh = state(dt::f32), dw = weights(4, dt::f32);
        lstm_backward::desc backward(prop_kind::backward, way, sequence(), h, c, w, w, bias(4), sequence(), h, c,
                                     d, dh, dh, dw, dw, bias(4), d, dh, dh);
        return run(pd, lstm_backward::primitive_desc(backward, cpu, pd), rounds);
    }

    template <class Forward, class Backward> double gru(memory::dim blocks, int rounds) {
        auto way = rnn_direction::unidirectional_left2right;
        auto h = state(kind), w = weights(3, kind);
        typename Forward::desc forward(prop_kind::forward_training, way, sequence(), h, w, w, bias(blocks), sequence(), h);
        typename Forward::primitive_desc pd(forward, cpu);
        auto d = memory::desc({T, B, H}, dt::f32, tag::tnc), dh = state(dt::f32), dw = weights(3, dt::f32);
        typename Backward::desc backward(prop_kind::backward, way, sequence(), h, w, w, bias(blocks), sequence(), h,
                                         d, dh, dw, dw, bias(blocks), d, dh);
        return run(pd, typename Backward::primitive_desc(backward, cpu, pd), rounds);
    }
};

int main(int count, char **words) {
    if (count != 6) return 2;
    Layers layers;
    const std::string cell = words[1];
    layers.kind = std::string(words[2]) == "bfloat16" ? dt::bf16 : dt::f32;
    layers.H = atoi(words[3]);
    layers.L = atoi(words[4]);
    const int rounds = atoi(words[5]);
    try {
        double speed = cell == "lstm" ? layers.lstm(rounds)
                     : cell == "gru after" ? layers.gru<lbr_gru_forward, lbr_gru_backward>(4, rounds)
                                           : layers.gru<gru_forward, gru_backward>(3, rounds);
        printf("%.0f\n", speed);
    } catch (error &e) {
        fprintf(stderr, "%s", e.what());
        return 1;
    }
}
