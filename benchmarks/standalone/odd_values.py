"""What mutated slices are made of: the values of an unhurt one, and odd ones of each kind."""

from __future__ import annotations

from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

SIDE = 32  # pixels of rows and columns: the smallest matrix that is read

# The slice that all begin with: every tag that a header asks for, as scanners write it.
TEXTS = {
    "SpecificCharacterSet": b"ISO_IR 100", "ImageType": rb"ORIGINAL\PRIMARY\AXIAL ",
    "SOPClassUID": CTImageStorage.encode(),
    "SOPInstanceUID": b"1.2.3.4 ", "Modality": b"CT", "StudyDescription": b"CT HEAD ", "SeriesDescription": b"AX 5 MM ",
    "PatientID": b"4711", "IssuerOfPatientID": b"WARD", "PatientAge": b"034Y", "BodyPartExamined": b"HEAD",
    "SliceThickness": b"5.0 ", "KVP": b"120 ", "ProtocolName": b"ROUTINE ", "ConvolutionKernel": b"H31s",
    "StudyInstanceUID": b"1.2.3\0", "SeriesInstanceUID": b"1.2.3.5\0", "AcquisitionNumber": b"1 ",
    "InstanceNumber": b"7 ",
    "ImagePositionPatient": rb"-120.5\-120.5\33 ", "ImageOrientationPatient": rb"1\0\0\0\0.98\-0.17",
    "FrameOfReferenceUID": b"1.2.9\0", "ImagesInAcquisition": b"28", "SliceLocation": b"33.0",
    "PhotometricInterpretation": b"MONOCHROME2 ", "PixelSpacing": rb"0.45\0.45 ", "RescaleIntercept": b"-1024 ",
    "RescaleSlope": b"1 ", "RescaleType": b"HU",
}  # fmt: skip
NUMBERS = {
    "SamplesPerPixel": 1, "Rows": SIDE, "Columns": SIDE, "BitsAllocated": 16, "BitsStored": 12, "HighBit": 11,
    "PixelRepresentation": 0,
}  # fmt: skip
OTHERS = {
    "ContrastBolusAgent": b"NONE", "ContrastBolusRoute": b"IV", "ContrastBolusVolume": b"0 ", "NumberOfFrames": b"1 ",
    "ContrastBolusStartTime": b"101500", "ContrastBolusTotalDose": b"30", "LossyImageCompression": b"01",
    "PixelPaddingValue": b"\x30\xf8", "PixelPaddingRangeLimit": b"\x40\xf8", "ContrastBolusIngredient": b"IODINE",
    "ContrastFlowRate": b"4 ", "ContrastBolusStopTime": b"101530",
}  # fmt: skip

DECIMALS = (b"1,0 ", b"-1024,0 ", b"1", b"", b"  ", b" 1.5", b"1.5  ", b"1.5\0", b"\0\0", b"+1.5", b"1e0 ", b"1E+01",
             b".5",
             b"5.", b"nan ", b"inf ", b"-inf", b"1_0 ", b"0x1 ", rb"1\2 ", rb"1\\2", rb"\1", b"1\\", b"0", b"-0",
             b"4.1 ",
             b"1 2 ", b"1,2,3 ", b"1;2 ", b"\t1 ", b"1\n", b"12345678901234567890 ", b"1.0000000000000000000001 ",
             b"1e400 ",
             b"Sn150 ", b"\xb2 ", b"1\xa0", rb"0,5\0,5 ", b"--1 ", b"1d0 ", b"0 ", b"NULL")  # fmt: skip
WORDS = (b"", b" ", b"HEAD", b"head ", b" HEAD ", b"HEAD\0", b"\0", rb"A\B ", rb"A\\B", rb"\A", b"A\\", b"a\nb ",
          b"\x1b$B!!",
          b"Sch\xe4del ", b"Sch\xc3\xa4del ", b"\xff\xfe", b"A" * 70, b"W/O ", b"NONE", b"CTA ", b"MIP ", b"A=B^C ",
          b"\t", b"a\0b ",
          b"LOCALIZER ", b"MONOCHROME1 ", b"RGB ", b"MR", b"01", b"018M", b"1.2.840.10008.5.1.4.1.1.7 ", b"\x7f ",
          b"HU\0\0",
          b"\xc2\xa0", b"1.2.3. ", b"C-SPINE ")  # fmt: skip
CHARACTER_SETS = (b"", b"ISO_IR 100", b"ISO_IR 6", b"ISO_IR 192", b"ISO_IR 13 ", b"ISO 2022 IR 6", rb"\ISO 2022 IR 87",
                   rb"ISO_IR 100\ISO_IR 144", b"ISO-IR 100", b"GB18030 ", b"latin1", b"ISO_IR 100 ", b" ISO_IR 192",
                   b"iso_ir 100", b"ISO_IR\0")  # fmt: skip
SHORTS = (0, 1, 2, 8, 11, 12, 15, 16, 31, 32, 33, 63, 1024, 1025, 0x7FFF, 0x8000, 63536, 0xFFFF)
SYNTAXES = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, RLELossless, ExplicitVRBigEndian, JPEGBaseline8Bit,
             JPEG2000Lossless, DeflatedExplicitVRLittleEndian, "1.2.3", "")  # fmt: skip
