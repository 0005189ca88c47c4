"""Every detector, one line each, in the order of DeepSense's Table 1."""

from __future__ import annotations

from cellwatch.models.detectors.auto_encoder import AutoEncoder
from cellwatch.models.detectors.bicnn_lstm import BiCNNLSTM
from cellwatch.models.detectors.bigru import BiGRU
from cellwatch.models.detectors.bilstm import BiLSTM
from cellwatch.models.detectors.cnn import CNN
from cellwatch.models.detectors.cnn_lstm import CNNLSTM
from cellwatch.models.detectors.decision_tree import DecisionTree
from cellwatch.models.detectors.deep_resnet1d import DeepResNet1D
from cellwatch.models.detectors.deep_transformer import DeepTransformer
from cellwatch.models.detectors.detector import Detector
from cellwatch.models.detectors.gru import GRU
from cellwatch.models.detectors.hybrid_ml_v1 import HybridMLV1
from cellwatch.models.detectors.hybrid_ml_v2 import HybridMLV2
from cellwatch.models.detectors.knn import KNN
from cellwatch.models.detectors.log_reg import LogReg
from cellwatch.models.detectors.lstm import LSTM
from cellwatch.models.detectors.naive_bayes import NaiveBayes
from cellwatch.models.detectors.random_forest import RandomForest
from cellwatch.models.detectors.resnet1d import ResNet1D
from cellwatch.models.detectors.rnn import RNN
from cellwatch.models.detectors.svm import SVM
from cellwatch.models.detectors.transformer import Transformer
from cellwatch.models.detectors.xgb import XGB

DETECTORS: dict[str, type[Detector]] = {
    SVM.NAME: SVM,
    KNN.NAME: KNN,
    RandomForest.NAME: RandomForest,
    DecisionTree.NAME: DecisionTree,
    LogReg.NAME: LogReg,
    NaiveBayes.NAME: NaiveBayes,
    XGB.NAME: XGB,
    HybridMLV1.NAME: HybridMLV1,
    HybridMLV2.NAME: HybridMLV2,
    CNN.NAME: CNN,
    LSTM.NAME: LSTM,
    BiLSTM.NAME: BiLSTM,
    CNNLSTM.NAME: CNNLSTM,
    BiCNNLSTM.NAME: BiCNNLSTM,
    GRU.NAME: GRU,
    BiGRU.NAME: BiGRU,
    Transformer.NAME: Transformer,
    DeepTransformer.NAME: DeepTransformer,
    ResNet1D.NAME: ResNet1D,
    DeepResNet1D.NAME: DeepResNet1D,
    AutoEncoder.NAME: AutoEncoder,
    RNN.NAME: RNN,
}
